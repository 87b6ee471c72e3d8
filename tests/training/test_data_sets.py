"""Which rows a data set has: exactly those that the lines learn, from whatever offset it is read."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from io import BytesIO

import pytest
from tests.builders.loops import loop_state
from tests.training.training_harness import START, event, make_learner, spec, state

from everloop_learning.data_set import Row
from everloop_learning.loops import KnownLoops
from everloop_learning.outcome import Outcome
from everloop_learning.step import Step
from everloop_schemas.envelope import Event, Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_schemas.training import DataSet
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_shared.messaging.routes import LogReader, Position
from everloop_training.adapters import learnable_rows, log_pieces
from everloop_training.adapters.data_sets import DataSets, RowWriter
from everloop_training.errors import DataSetGone, DataSetRejected, NoOutcomes
from everloop_training.worker.learners.learning_line import LearningLine


async def written(outcomes: Iterable[OutcomeObserved]) -> MemoryEngine:
    """An engine whose log has these outcomes, in one partition."""
    broker = MemoryBroker(partitions=1)
    for one in outcomes:
        await broker.append(one.topic.name, one.key(), one.encode())
    return broker.engine("training")


def data_sets_of(engine: LogReader, now: LoopState | None = None) -> DataSets:
    loops = KnownLoops()
    loops.apply(now or state())
    return DataSets(loops, engine)


class TrimmedEngine(MemoryEngine):
    """An engine whose log has lost the records before an offset."""

    begin = 0

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """The first that is left."""
        return self.begin

    async def read(self, topic: Topic, partition: int, start: int, stop: int) -> list[tuple[Position, Event]]:
        """What is left."""
        return await super().read(topic, partition, max(start, self.begin), stop)


async def stored(data_sets: DataSets, start: int, end: int) -> tuple[DataSet, bytes]:
    file = BytesIO()
    found = await data_sets.write(DataSet(loop="market", start=start, end=end, revision=1), RowWriter(file))
    return found, file.getvalue()


async def read(data_sets: DataSets, start: int, end: int, revision: int = 1) -> list[Row]:
    data_set = DataSet(loop="market", start=start, end=end, revision=revision)
    return [row async for rows in data_sets.rows(data_set) for row in rows]


def mixed_log(number: int) -> list[OutcomeObserved]:
    """Labels, feedback within and beyond its share, feedback without a label, corrections, repeats, another loop."""
    rng, log = random.Random(7), list[OutcomeObserved]()
    for i in range(number):
        kind = rng.random()
        if kind < 0.55:
            log.append(event(i))
        elif kind < 0.75:
            log.append(event(i, kind="feedback", source=rng.choice(["ann", "bob"])))
        elif kind < 0.8:
            log.append(event(i, label=None, rejected=True, kind="feedback", source="ann"))
        elif kind < 0.9 and i > 20:
            log.append(event(rng.randrange(i - 20, i), correction=1))
        elif kind < 0.95 and log:
            log.append(rng.choice(log[-30:]))
        else:
            log.append(event(i, loop="other"))
    return log


def learned(log: list[OutcomeObserved], monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, object]]:
    """What a line of the learner learned of a log, as offset and label."""
    seen = list[tuple[int, object]]()
    before = LearningLine.predict_then_learn

    def learn(line: LearningLine, outcome: Outcome, losses: object) -> Step:
        seen.append((outcome.offset, outcome.label))
        return before(line, outcome, losses)  # type: ignore[arg-type]

    monkeypatch.setattr(LearningLine, "predict_then_learn", learn)
    learner = make_learner()
    for offset, one in enumerate(log):
        if one.loop == "market":
            learner.learn(Outcome.from_event(one, offset))
    return seen


@pytest.mark.parametrize("checkpoint_offsets", [100_000, 50])
async def test_the_rows_are_those_that_a_line_learned_wherever_the_range_starts(
    monkeypatch: pytest.MonkeyPatch, checkpoint_offsets: int
) -> None:
    monkeypatch.setattr(learnable_rows, "CHECKPOINT_OFFSETS", checkpoint_offsets)
    monkeypatch.setattr(log_pieces, "MOST_OFFSETS", 40)
    log = mixed_log(1_500)
    lines_learned = learned(log, monkeypatch)
    data_sets = data_sets_of(await written(log))

    for start, end in [(0, 1_499), (700, 1_300), (701, 701), (1_400, 1_499), (30, 900)]:
        rows = await read(data_sets, start, end)

        assert [(row.offset, row.label) for row in rows] == [one for one in lines_learned if start <= one[0] <= end]
        assert all(row.features == log[row.offset].data.features for row in rows)
        assert all(row.prediction_id == log[row.offset].data.prediction_id for row in rows)


async def test_a_data_set_has_the_same_digest_whoever_reads_it_and_whenever() -> None:
    log = mixed_log(600)
    early, late = data_sets_of(await written(log[:400])), data_sets_of(await written(log))
    await read(late, 0, 599)

    (first, lines), (again, same_lines) = await stored(early, 100, 399), await stored(late, 100, 399)

    assert (first.name, first.digest, first.rows) == ("market@100..399#1", again.digest, again.rows)
    assert lines == same_lines
    assert sha256(lines).hexdigest() == first.digest
    assert [Row.decode(line) for line in lines.splitlines()] == [
        r._replace(entity="") for r in await read(late, 100, 399)
    ]


def test_a_row_is_the_same_line_of_json_as_ever() -> None:
    time = datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=timezone(timedelta(hours=2)))
    features = {"b": 1e16, "a": None, "c": "ä\u2028", "d": True, "e": -0.0, "f": 2**63, "g": 0.1, "h": 1.0}
    row = Row(7, time, "p-1", features, "yes")

    line = row.encode()

    assert line.decode() == (
        '{"offset":7,"time":"2026-01-02T01:04:05.000600Z","prediction_id":"p-1","features":{"a":null,"b":1e+16,'
        '"c":"ä\u2028","d":true,"e":-0.0,"f":9223372036854775808,"g":0.1,"h":1.0},"label":"yes"}\n'
    )
    assert Row.decode(line) == row


def test_the_entity_of_a_row_is_beside_its_data_set() -> None:
    row = Row(7, datetime(2026, 1, 2, tzinfo=UTC), "p-1", {"a": 1.0}, True, 'shop "3"')

    assert row.encode() == row._replace(entity="").encode()
    assert json.loads(row.encode_with_entity()) == {**json.loads(row.encode()), "entity": 'shop "3"'}
    assert Row.decode(row.encode_with_entity()) == row


async def test_rows_of_another_lifetime_are_in_no_data_set() -> None:
    log = [*[event(i, revision=1) for i in range(50)], *[event(i, revision=4) for i in range(50, 100)]]
    data_sets = data_sets_of(await written(log), loop_state(spec(), sequence=9, revision=4, life=3))

    assert [row.offset for row in await read(data_sets, 0, 99, revision=4)] == [*range(50, 100)]
    assert (await data_sets.latest("market", 1_000)).name == "market@50..99#4"
    with pytest.raises(DataSetRejected, match="no data set") as refused:
        await read(data_sets, 0, 99, revision=2)
    assert refused.value.errors[0].field == "revision"


@pytest.mark.parametrize("checkpoint_offsets", [100_000, 60])
async def test_the_last_rows_and_those_of_a_time_are_found(
    monkeypatch: pytest.MonkeyPatch, checkpoint_offsets: int
) -> None:
    monkeypatch.setattr(learnable_rows, "CHECKPOINT_OFFSETS", checkpoint_offsets)
    monkeypatch.setattr(learnable_rows, "CHECKPOINTS_PER_LOOP", 5)
    monkeypatch.setattr(log_pieces, "MOST_OFFSETS", 40)
    data_sets = data_sets_of(await written(mixed_log(1_000)))
    rows = await read(data_sets, 0, 999)

    for number in (1, 17, 400, 5_000):
        found = await data_sets.latest("market", number)
        assert (found.start, found.end) == (rows[-number:][0].offset, rows[-1].offset)
    for first, last in [(0, 999), (1, 9), (250, 700), (900, 990)]:
        since, until = START + timedelta(minutes=first), START + timedelta(minutes=last)
        found = await data_sets.between("market", since, until)
        assert found.start == next(row.offset for row in rows if row.time >= since)
        assert found.end == [row.offset for row in rows if row.time < until][-1]
    with pytest.raises(NoOutcomes):
        await data_sets.between("market", START + timedelta(days=900), None)
    with pytest.raises(NoOutcomes):
        await data_sets.between("market", None, START - timedelta(days=900))


async def test_a_range_that_is_none_names_the_field_and_the_fix() -> None:
    data_sets = data_sets_of(await written([event(i) for i in range(10)]))

    for start, end, field in [(5, 4, "start"), (-1, 4, "start"), (0, 10, "end")]:
        with pytest.raises(DataSetRejected) as refused:
            await read(data_sets, start, end)
        assert [e.field for e in refused.value.errors] == [field]


async def test_a_trimmed_log_still_has_what_its_records_alone_decide() -> None:
    log = [event(i) for i in range(100)]
    engine = await written(log)
    trimmed = TrimmedEngine(engine.broker, "training")
    before = await stored(data_sets_of(engine), 60, 99)
    trimmed.begin = 50

    assert await stored(data_sets_of(trimmed), 60, 99) == before
    with pytest.raises(DataSetGone, match="at offset 50"):
        await read(data_sets_of(trimmed), 49, 99)


async def test_a_trimmed_log_refuses_rows_that_deleted_records_decide() -> None:
    log = [event(i) for i in range(60)]
    log[55] = event(55, kind="feedback", source="ann")
    log[58] = event(3, correction=1)
    trimmed = TrimmedEngine((await written(log)).broker, "training")
    trimmed.begin = 50
    data_sets = data_sets_of(trimmed)

    for start in (50, 56):
        with pytest.raises(DataSetGone, match=r"at offset 5[58]"):
            await read(data_sets, start, 59)
    assert [row.offset for row in await read(data_sets, 59, 59)] == [59]
