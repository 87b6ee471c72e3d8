"""The stored form of joins."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.feature.feature_events import label, prediction
from tests.feature.join_harness import feedback

from everloop_feature.domain.events import build_outcome_event
from everloop_feature.domain.join import Join, Truth, WaitingLabel
from everloop_feature.domain.label_join import JoinedOutcome
from everloop_feature.domain.stored_prediction import StoredPrediction
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.serving import PredictionMade
from everloop_shared.messaging.routes import Position


def test_a_join_is_loaded_as_it_was_dumped() -> None:
    waiting = [
        WaitingLabel.of(feedback(1, f"f{i}", correct=True, comment="a\nb"), Position("t", 0, i, 7)) for i in range(3)
    ]
    without_prediction = Join(
        7,
        truth=Truth("cat"),
        corrections=2,
        applied_ids=("a",),
        feedback=(("b", "c"),),
        truth_time_us=5,
        truth_is_label=True,
    )
    join = replace(
        without_prediction.add_prediction(prediction(1)), waiting=tuple(waiting[:2]), overdue=tuple(waiting[2:])
    )

    assert Join.load(join.dump()) == join
    assert PredictionMade.decode(Join.load(join.dump()).prediction or b"") == prediction(1)


def test_a_join_in_the_form_of_the_first_releases_is_still_read() -> None:
    opinion, made = feedback(1, correct=True), prediction(1)
    value = [
        9,
        json.loads(made.encode()),
        [],
        [[json.loads(opinion.encode()), ["t", 0, 3, 4]]],
        ["cat", None],
        1,
        ["a"],
    ]

    join = Join.load(json.dumps(value).encode())

    assert PredictionMade.decode(join.prediction or b"") == made
    assert (join.revision, join.truth, join.truth_is_label) == (1, Truth("cat"), True)
    assert [(w.decode(), w.at) for w in join.overdue] == [(opinion, Position("t", 0, 3, 4))]


STORED_AS_JSON = b"""\
[[7,["cat",null],2,["a"],[["b","c"]],5,true,1],[],[["l1","label",1,"t",0,3,4]]]
{"specversion":"1.0","id":"p1","source":"everloop/serving","type":"serving.prediction_made.v1",\
"time":"2026-01-05T12:00:01.100000+00:00","subject":"e1","datacontenttype":"application/json","loop":"shop",\
"revision":1,"causationid":"e1","data":{"entity":"ada","features":{"price":1.0},"prediction":true,\
"probabilities":{"false":0.2,"true":0.8},"version":"logistic-0@5","role":"champion","propensity":0.75,\
"latency_ms":0.5,"observed":"2026-01-05T12:00:01+00:00","door":"stream",\
"shadows":[{"version":"forest-0@5","prediction":false}]}}
{"specversion":"1.0","id":"l1","source":"everloop/ingest","type":"ingest.label_received.v1",\
"time":"2026-01-05T12:01:01+00:00","subject":"e1","datacontenttype":"application/json","loop":"shop",\
"revision":1,"data":{"prediction_id":"e1","kind":"label","label":true,"received":"2026-01-05T12:01:02+00:00"}}"""


def test_a_join_that_an_earlier_release_stored_as_json_is_still_read() -> None:
    join = Join.load(STORED_AS_JSON)

    assert PredictionMade.decode(join.prediction or b"") == prediction(1)
    assert [(w.id, w.kind, w.decode(), w.at) for w in join.overdue] == [
        ("l1", "label", label(1), Position("t", 0, 3, 4))
    ]
    assert replace(join, prediction=None, overdue=()) == Join(
        due_ms=7,
        prediction_revision=1,
        truth=Truth("cat"),
        corrections=2,
        applied_ids=("a",),
        feedback=(("b", "c"),),
        truth_time_us=5,
        truth_is_label=True,
    )


@given(
    st.none() | st.dictionaries(st.text(max_size=5), st.floats(0, 1), max_size=3),
    st.dictionaries(st.text(max_size=5), st.none() | st.booleans() | st.floats(-1e9, 1e9) | st.text(), max_size=4),
    st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | st.text(max_size=9),
)
def test_what_an_outcome_repeats_of_a_prediction_is_what_the_prediction_says(
    probabilities: dict[str, float] | None, features: Fields, answer: Scalar
) -> None:
    made = prediction(1, answer)
    made = made.copy_with(data=replace(made.data, probabilities=probabilities, features=features))
    stored = StoredPrediction.read(made.encode())

    outcome = build_outcome_event(JoinedOutcome(stored, label(1), Truth(True), 0))

    read, of = OutcomeObserved.decode(outcome.encode()).data, made.data
    assert (read.features, read.prediction, read.probabilities) == (of.features, of.prediction, of.probabilities)
    assert (read.version, read.role, read.propensity) == (of.version, of.role, of.propensity)
    assert (read.shadows, read.entity, read.predicted) == (of.shadows, of.entity, made.time)
