"""Records of other producers must fit the rules of the endpoints: the others become dead letters with a reason."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from tests.builders.running import RunningService
from tests.feature.entity_harness import entity_handlers
from tests.feature.feature_events import START, event, label, loop_state, prediction, spec

from everloop_feature.domain.admission import admit_label, admit_observation
from everloop_feature.domain.entity import PAGE_IDS, Entity, id_hash, match_id
from everloop_feature.domain.loops import ActiveLoops
from everloop_features import compile_features
from everloop_features.fingerprint import fingerprint
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import InputRejected
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

FeatureDeadLetter = DEAD_LETTERS["feature"]
BOUNDED: dict[str, Any] = {"schema": {"price": {"type": "number", "max": 100}}}


def written(fields: dict[str, Any], revision: int = 1, **changes: Any) -> EventReceived:
    """An observation as another producer may write it."""
    good = event(1, revision=revision, **changes)
    data = EventReceivedData(entity="ada", fields=fields, received=good.time)
    return good.copy_with(data=data)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (written({"price": "7"}), "data.price: must be a finite number, is text"),
        (written({"price": 1e9}), "data.price: must be at most 100"),
        (written({"price": True}), "data.price: must be a finite number"),
        (written({"price": 10**30}), "data.price: must be a finite number"),
        (written({"price": 1.0, "zz": 5}), "data.zz: is not in the loop's schema"),
        (written({}), "data.price: is missing"),
        (written({"price": 1.0}, subject="bob"), "data.entity: is not the subject"),
        (written({"price": 1.0}, id="a\nb"), "id: must be text of 1 to 256"),
        (written({"price": "7"}, revision=0), "data.price"),
        (label(1, "banana"), "label: must be true or false"),
        (label(1, 2), "label: must be true or false"),
        (label(1, None), "label: is missing"),
        (label(1, prediction_id="e2"), "data.prediction_id: is not the subject"),
        (label(1, None, kind="feedback"), "correct: is missing"),
        (label(1, True, kind="feedback", comment="x" * 10_001), "comment: must be text of at most 10,000"),
    ],
)
async def test_what_no_endpoint_would_accept_is_a_dead_letter_and_the_next_record_is_used(
    feature: RunningService, record: Event, reason: str
) -> None:
    await feature.publish(loop_state(spec(**BOUNDED)), prediction(1), record)

    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)
    await feature.publish(written({"price": 1.0}), label(1, 1))
    [vector] = await feature.wait_for(FeaturesComputed, 1)
    [outcome] = await feature.wait_for(OutcomeObserved, 1)
    assert dead_letter.data.error == "RecordRejected"
    assert reason in dead_letter.data.reason
    assert vector.data.features["price"] == 1.0
    assert outcome.data.label is True


@pytest.mark.parametrize("key", [b"shop/bob", b""])
async def test_a_record_under_another_key_is_a_dead_letter(feature: RunningService, key: bytes) -> None:
    await feature.publish(loop_state())

    await feature.broker.append(EventReceived.topic.name, key, written({"price": 1.0}).encode())

    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)
    assert "its key is" in dead_letter.data.reason
    assert "b'shop/ada'" in dead_letter.data.reason


@pytest.mark.parametrize(
    ("record", "once", "twice"),
    [
        (written({"price": 1.0}), b'"price":1.0', b'"price":2.0,"price":1.0'),
        (label(1, True), b'"label":true', b'"label":false,"label":true'),
    ],
)
async def test_a_record_with_a_key_twice_is_a_dead_letter(
    feature: RunningService, record: Event, once: bytes, twice: bytes
) -> None:
    await feature.publish(loop_state(spec(**BOUNDED)), prediction(1))
    wire = record.encode()
    assert once in wire

    await feature.broker.append(record.topic.name, record.key(), wire.replace(once, twice))

    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)
    assert "is there twice; keep one" in dead_letter.data.reason
    assert feature.published(FeaturesComputed) == []
    assert feature.published(OutcomeObserved) == []


@pytest.mark.parametrize("correct", [True, False])
async def test_a_prediction_that_is_no_label_is_never_learned(feature: RunningService, correct: bool) -> None:
    await feature.publish(loop_state(), prediction(1, "banana"))

    await feature.publish(label(1, None, kind="feedback", correct=correct))

    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)
    assert "'banana' is no label of the loop" in dead_letter.data.reason
    assert feature.published(OutcomeObserved) == []


def with_revisions(*specs: LoopSpec) -> ActiveLoops:
    """The loop at the last of these revisions."""
    loops = ActiveLoops()
    for revision, of in enumerate(specs, 1):
        loops.apply(loop_state(of, revision, revision))
    return loops


OLD = spec(schema={"price": {"type": "number", "max": 500}, "gone": {"type": "string"}}, features=[{"fields": "all"}])
NEW = spec(schema={"price": {"type": "number", "max": 100}, "fresh": {"type": "boolean"}}, features=[{"fields": "all"}])
UNDER_OLD = {"price": 400.0, "gone": "x"}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_was_accepted_under_an_earlier_revision_is_used_as_far_as_it_fits(restarted: bool) -> None:
    loops = ActiveLoops() if restarted else with_revisions(OLD, NEW)
    if restarted:
        loops.apply(loop_state(NEW, 2, 2))

    assert admit_observation(loops.require("shop"), written(UNDER_OLD, revision=1)) == {"price": 400.0, "fresh": None}


@pytest.mark.parametrize(
    ("fields", "revision", "reason"),
    [
        (UNDER_OLD, 2, "at most 100"),
        (UNDER_OLD, 0, "at most 100"),
        (UNDER_OLD | {"price": 501.0}, 1, "at most 500"),
        (UNDER_OLD | {"price": "7"}, 1, "finite number"),
    ],
)
def test_what_its_own_revision_rejects_is_rejected(fields: dict[str, Any], revision: int, reason: str) -> None:
    with pytest.raises(InputRejected, match=reason):
        admit_observation(with_revisions(OLD, NEW).require("shop"), written(fields, revision=revision))


def test_a_label_of_a_class_that_a_later_revision_dropped_is_still_accepted() -> None:
    three = spec(task="multiclass", label={"classes": ["a", "b", "c"], "within": "1h"})
    two = spec(task="multiclass", label={"classes": ["a", "b"], "within": "1h"})
    loop = with_revisions(three, two).require("shop")

    assert admit_label(loop, label(1, "c")).data.label == "c"
    with pytest.raises(InputRejected, match="must be one of"):
        admit_label(loop, label(1, "d"))


async def test_a_record_that_is_rejected_leaves_nothing_behind() -> None:
    store = KeyedStore("entities")
    handlers = entity_handlers(with_revisions(spec(**BOUNDED)), store)

    with pytest.raises(InputRejected):
        await handlers.on_event_received(written({"price": 1e9}), Position("t", 0, 0, 1))

    assert store.get("shop/ada", Position("t", 0, 1, 1)) is None


async def test_other_data_under_the_same_id_is_a_dead_letter_and_the_same_data_again_is_dropped(
    feature: RunningService,
) -> None:
    await feature.publish(
        loop_state(), event(0, price=1.0), event(0, price=1), event(0, price=7.0), event(1, price=3.0)
    )

    vectors = await feature.wait_for(FeaturesComputed, 2)
    [dead_letter] = await feature.wait_for(FeatureDeadLetter, 1)

    assert [v.data.features["mean_3"] for v in vectors] == [1.0, 2.0]
    assert dead_letter.data.error == "IdTaken"
    assert "'e0' is the id of another observation" in dead_letter.data.reason


def test_ids_in_the_state_of_earlier_releases_are_still_known_and_count_as_the_same() -> None:
    page = b"".join(id_hash(f"old-{n}") for n in range(PAGE_IDS))
    half = page[: 5 * 8]
    state = json.dumps([5, {}, {}, b64encode(half).decode(), 1]).encode()

    entity = Entity.load(state)
    grown = Entity.load(entity.observe(compile_features(spec()), "new", {"price": 1.0}, START, START, b"ab").dump())

    assert [match_id(grown.ids, f"old-{n}", b"xy") for n in (0, 4, 5)] == ["same", "same", "new"]
    assert [match_id(grown.ids, "new", fingerprint_start) for fingerprint_start in (b"ab", b"xy")] == ["same", "other"]
    assert [match_id(page, f"old-{n}", b"xy") for n in (0, 255, 256)] == ["same", "same", "new"]
    assert grown.pages == 1


def test_an_entity_that_an_earlier_release_stored_as_json_is_still_read() -> None:
    stored = b"""[2,{"ring":{"price":[1.5,2.5]}},{"price":2.5,"mean_3":2.0},"EbXh1TroKxRhYhtdXlH1Tw8EYWI=",0,2,10]"""

    entity = Entity.load(stored)

    assert (entity.applied, entity.state, entity.life) == (2, {"ring": {"price": [1.5, 2.5]}}, 2)
    assert entity.features == {"price": 2.5, "mean_3": 2.0}
    assert [match_id(entity.ids, f"e{n}", b"ab") for n in (0, 1, 2)] == ["same", "same", "new"]
    assert Entity.load(entity.dump()) == entity


def test_fingerprints_differ_for_different_data_only() -> None:
    one = fingerprint("ada", {"a": 1, "b": None, "c": "x"}, None)

    assert one == fingerprint("ada", {"c": "x", "a": 1.0}, None)
    assert (
        len(
            {
                one,
                fingerprint("bob", {"a": 1, "c": "x"}, None),
                fingerprint("ada", {"a": 2, "c": "x"}, None),
                fingerprint("ada", {"a": "1", "c": "x"}, None),
                fingerprint("ada", {"a": 1, "c": "x"}, START),
            }
        )
        == 5
    )
