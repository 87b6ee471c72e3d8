"""Records of other producers are held to the rules of the doors: what does not fit is parked with its reason."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest
from tests.feature.feature_room import FeatureRoom
from tests.feature.feature_world import START, event, label, loop_state, prediction, spec

from everloop_feature.domain import PAGE_IDS, Entity, id_hash, seen_under
from everloop_feature.handlers import EntityHandlers
from everloop_feature.loops import Loops
from everloop_feature.metrics import PrometheusNotes
from everloop_feature.records import labelled, observed
from everloop_features import compile_features
from everloop_features.observation import fingerprint
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import Rejected
from everloop_shared.messaging.keyed.store import KeyedStore
from everloop_shared.messaging.routes import Position

Letter = DEAD_LETTERS["feature"]
BOUNDED: dict[str, Any] = {"schema": {"price": {"type": "number", "max": 100}}}


def wrote(fields: dict[str, Any], revision: int = 1, **changes: Any) -> EventReceived:
    """An observation as another producer may write it."""
    good = event(1, revision=revision, **changes)
    data = EventReceivedData(entity="ada", fields=fields, received=good.time)
    return good.model_copy(update={"data": data})


@pytest.mark.parametrize(
    ("record", "word"),
    [
        (wrote({"price": "7"}), "data.price: must be a finite number, is text"),
        (wrote({"price": 1e9}), "data.price: must be at most 100"),
        (wrote({"price": True}), "data.price: must be a finite number"),
        (wrote({"price": 10**30}), "data.price: must be a finite number"),
        (wrote({"price": 1.0, "zz": 5}), "data.zz: is not in the loop's schema"),
        (wrote({}), "data.price: is missing"),
        (wrote({"price": 1.0}, subject="bob"), "data.entity: is not the subject"),
        (wrote({"price": 1.0}, id="a\nb"), "id: must be text of 1 to 256"),
        (wrote({"price": "7"}, revision=0), "data.price"),
        (label(1, "banana"), "label: must be true or false"),
        (label(1, 2), "label: must be true or false"),
        (label(1, None), "label: is missing"),
        (label(1, prediction_id="e2"), "data.prediction_id: is not the subject"),
        (label(1, None, kind="feedback"), "correct: is missing"),
        (label(1, True, kind="feedback", comment="x" * 10_001), "comment: must be text of at most 10,000"),
    ],
)
async def test_what_no_door_would_let_in_is_a_dead_letter_and_the_next_flows(
    room: FeatureRoom, record: Event, word: str
) -> None:
    await room.tell(loop_state(spec(**BOUNDED)), prediction(1), record)

    [letter] = await room.hears(Letter, 1)
    await room.tell(wrote({"price": 1.0}), label(1, 1))
    [vector] = await room.hears(FeaturesComputed, 1)
    [outcome] = await room.hears(OutcomeObserved, 1)
    assert letter.data.error == "RecordRejected"
    assert word in letter.data.reason
    assert vector.data.features["price"] == 1.0
    assert outcome.data.label is True


@pytest.mark.parametrize("key", [b"shop/bob", b""])
async def test_a_record_under_another_key_is_a_dead_letter(room: FeatureRoom, key: bytes) -> None:
    await room.tell(loop_state())

    await room.broker.append(EventReceived.topic.name, key, wrote({"price": 1.0}).encode())

    [letter] = await room.hears(Letter, 1)
    assert "its key is" in letter.data.reason
    assert "b'shop/ada'" in letter.data.reason


@pytest.mark.parametrize(
    ("record", "once", "twice"),
    [
        (wrote({"price": 1.0}), b'"price":1.0', b'"price":2.0,"price":1.0'),
        (label(1, True), b'"label":true', b'"label":false,"label":true'),
    ],
)
async def test_a_record_that_says_a_key_twice_is_a_dead_letter(
    room: FeatureRoom, record: Event, once: bytes, twice: bytes
) -> None:
    await room.tell(loop_state(spec(**BOUNDED)), prediction(1))
    wire = record.encode()
    assert once in wire

    await room.broker.append(record.topic.name, record.key(), wire.replace(once, twice))

    [letter] = await room.hears(Letter, 1)
    assert "is there twice; keep one" in letter.data.reason
    assert room.heard(FeaturesComputed) == []
    assert room.heard(OutcomeObserved) == []


@pytest.mark.parametrize("correct", [True, False])
async def test_a_prediction_that_is_no_label_is_never_learned(room: FeatureRoom, correct: bool) -> None:
    await room.tell(loop_state(), prediction(1, "banana"))

    await room.tell(label(1, None, kind="feedback", correct=correct))

    [letter] = await room.hears(Letter, 1)
    assert "'banana' is no label of the loop" in letter.data.reason
    assert room.heard(OutcomeObserved) == []


def known(*specs: LoopSpec) -> Loops:
    """Loops that heard of these revisions."""
    loops = Loops()
    for revision, of in enumerate(specs, 1):
        loops.apply(loop_state(of, revision, revision))
    return loops


OLD = spec(schema={"price": {"type": "number", "max": 500}, "gone": {"type": "string"}}, features=[{"fields": "all"}])
NEW = spec(schema={"price": {"type": "number", "max": 100}, "fresh": {"type": "boolean"}}, features=[{"fields": "all"}])
THEN = {"price": 400.0, "gone": "x"}


@pytest.mark.parametrize("restarted", [False, True])
def test_what_a_door_let_in_under_an_earlier_revision_is_taken_as_far_as_it_goes(restarted: bool) -> None:
    loops = Loops() if restarted else known(OLD, NEW)
    if restarted:
        loops.apply(loop_state(NEW, 2, 2))

    assert observed(loops, wrote(THEN, revision=1)) == {"price": 400.0, "fresh": None}


@pytest.mark.parametrize(
    ("fields", "revision", "word"),
    [
        (THEN, 2, "at most 100"),
        (THEN, 0, "at most 100"),
        (THEN | {"price": 501.0}, 1, "at most 500"),
        (THEN | {"price": "7"}, 1, "finite number"),
    ],
)
def test_an_earlier_revision_is_no_excuse_for_what_it_refused_too(
    fields: dict[str, Any], revision: int, word: str
) -> None:
    with pytest.raises(Rejected, match=word):
        observed(known(OLD, NEW), wrote(fields, revision=revision))


def test_a_label_of_a_class_that_a_later_revision_dropped_is_still_taken() -> None:
    three = spec(task="multiclass", label={"classes": ["a", "b", "c"], "within": "1h"})
    two = spec(task="multiclass", label={"classes": ["a", "b"], "within": "1h"})
    loops = known(three, two)

    assert labelled(loops, label(1, "c")).data.label == "c"
    with pytest.raises(Rejected, match="must be one of"):
        labelled(loops, label(1, "d"))


async def test_a_record_that_is_refused_leaves_nothing_behind() -> None:
    store = KeyedStore("entities")
    handlers = EntityHandlers(known(spec(**BOUNDED)), store, PrometheusNotes())

    with pytest.raises(Rejected):
        await handlers.on_event_received(wrote({"price": 1e9}), Position("t", 0, 0, 1))

    assert store.get("shop/ada", Position("t", 0, 1, 1)) is None


async def test_other_data_under_the_same_id_is_a_dead_letter_and_the_same_data_again_is_dropped(
    room: FeatureRoom,
) -> None:
    await room.tell(loop_state(), event(0, price=1.0), event(0, price=1), event(0, price=7.0), event(1, price=3.0))

    vectors = await room.hears(FeaturesComputed, 2)
    [letter] = await room.hears(Letter, 1)

    assert [v.data.features["mean_3"] for v in vectors] == [1.0, 2.0]
    assert letter.data.error == "IdTaken"
    assert "'e0' is the id of another observation" in letter.data.reason


def test_ids_of_a_state_of_before_are_still_known_and_count_as_the_same() -> None:
    page = b"".join(id_hash(f"old-{n}") for n in range(PAGE_IDS))
    half = page[: 5 * 8]
    state = json.dumps([5, {}, {}, b64encode(half).decode(), 1]).encode()

    entity = Entity.load(state)
    grown = Entity.load(entity.observe(compile_features(spec()), "new", {"price": 1.0}, START, START, b"ab").dump())

    assert [seen_under(grown.ids, f"old-{n}", b"xy") for n in (0, 4, 5)] == ["same", "same", "new"]
    assert [seen_under(grown.ids, "new", mark) for mark in (b"ab", b"xy")] == ["same", "other"]
    assert [seen_under(page, f"old-{n}", b"xy") for n in (0, 255, 256)] == ["same", "same", "new"]
    assert grown.pages == 1


def test_a_fingerprint_tells_data_apart_and_nothing_else() -> None:
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
