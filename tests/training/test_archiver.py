"""The archiver: every record of outcomes and predictions, once, in the table of its loop."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from textwrap import dedent

import deltalake
import duckdb
import pytest
from tests.builders.events import outcome_observed, prediction_made
from tests.builders.loops import NOW, loop_spec, loop_state
from tests.builders.running import until
from tests.training.archive_harness import archiving, hurry
from tests.training.training_harness import event

from everloop_archive.layout import KINDS, TableName
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.app import build
from everloop_training.settings import TrainingSettings

TABLE = TableName("outcomes", "market")
LOOPS = [loop_state(loop_spec(loop=f"loop-{i}")) for i in range(12)]


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)


async def test_outcomes_and_predictions_are_archived_as_they_are_on_the_log(tmp_path: Path) -> None:
    outcomes = [event(i) for i in range(50)]
    predictions = [prediction_made(f"p{i}", features={"price": i}) for i in range(30)]
    async with archiving(tmp_path, loop_state()) as running:
        await running.publish([*outcomes, *predictions])
        await running.until_archived(50)
        await running.until_archived(30, kind="predictions")

    assert [row["record"].encode() for row in running.archive.rows()] == [e.encode() for e in outcomes]
    rows = running.archive.rows("predictions")
    assert [row["features"]["price"] for row in rows] == list(range(30))
    assert {row["life"] for row in rows} == {1}


async def test_stock_readers_read_the_archive_by_its_folders_and_by_its_log(tmp_path: Path) -> None:
    days = [NOW + timedelta(days=i // 10) for i in range(40)]
    events = [
        outcome_observed(f"p{i}", i % 2 == 0, loop=loop, predicted=day, features={"price": i})
        for i, day in enumerate(days)
        for loop in ("shop", "market")
    ]
    async with archiving(tmp_path, loop_state(), loop_state(loop_spec(loop="shop"))) as running:
        await running.publish(events)
        await running.until_archived(80)

    files = f"{tmp_path}/outcomes/loop=*/day=*/*.parquet"
    query = f"SELECT loop, day, count(*), sum(features.price) FROM read_parquet('{files}') GROUP BY ALL ORDER BY ALL"
    found = duckdb.connect().execute(query).fetchall()
    assert [(loop, count) for loop, _, count, _ in found] == [("market", 10)] * 4 + [("shop", 10)] * 4
    assert found[0][1:] == (NOW.date(), 10, sum(range(10)))
    table = deltalake.DeltaTable(str(tmp_path / "outcomes/loop=shop")).to_pyarrow_table(
        filters=[("day", "=", NOW.date())]
    )
    assert sorted(table["features"].combine_chunks().field("price").to_pylist()) == list(range(10))


async def test_a_stop_writes_what_was_read_and_a_start_goes_on_after_it(tmp_path: Path) -> None:
    broker = MemoryBroker(partitions=1)
    for start in (0, 20, 40):
        async with archiving(tmp_path, loop_state(), broker=broker, archive_seconds=1000) as running:
            await running.publish(event(i) for i in range(start, start + 20))
            await running.publish([prediction_made("p")])
            await running.until_read(start + 20)

    assert running.archive.offsets() == list(range(60))
    assert running.archive.next_offset() == 60
    assert running.archive.data_files() == running.archive.named_files(
        TableName("outcomes", "market"), TableName("predictions", "market")
    )


def test_without_a_url_nothing_of_the_archive_is_imported_or_measured(tmp_path: Path) -> None:
    program = """
        import sys
        from everloop_shared.messaging.memory import MemoryBroker
        from everloop_training.app import build
        from everloop_training.settings import TrainingSettings
        from prometheus_client import generate_latest
        build(TrainingSettings(data=sys.argv[1], port=0), MemoryBroker().engine)
        imported = sorted({"pyarrow", "everloop_archive.stores", "everloop_archive.arrays"} & sys.modules.keys())
        measured = [line for line in generate_latest().decode().splitlines() if line.startswith("everloop_archive")]
        print(imported, measured)
    """
    command = [sys.executable, "-c", dedent(program), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[] []\n"


def test_a_url_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = TrainingSettings(data=tmp_path, port=0, archive="nowhere://bucket")

    with pytest.raises(Misconfigured, match=r"EVERLOOP_ARCHIVE: 'nowhere://bucket' cannot be used"):
        build(settings, MemoryBroker().engine)


async def test_a_table_grows_with_the_loop_s_schema(tmp_path: Path) -> None:
    later = loop_spec(task="regression", schema={"price": {"type": "string"}, "calls": {"type": "integer"}})
    async with archiving(tmp_path, loop_state()) as running:
        await running.publish(event(i, features={"price": 1.5}) for i in range(10))
        await running.until_archived(10)
        second = [event(i, revision=2, label=0.5, features={"price": "much", "calls": i}) for i in range(10, 20)]
        await running.publish(second)
        running.loops.apply(loop_state(later, revision=2, sequence=2))
        await running.until_archived(20)

    rows = running.archive.rows()
    assert [row["features"] for row in rows[:10]] == [{"price": 1.5}] * 10
    assert rows[10]["features"] == {"price": None, "price__string": "much", "calls": 10}
    assert (rows[10]["label"], rows[10]["label__number"], rows[10]["revision"]) == (None, 0.5, 2)
    table = deltalake.DeltaTable(str(tmp_path / "outcomes/loop=market")).to_pyarrow_table()
    assert table.num_rows == 20
    assert table["label__number"].null_count == 10


async def test_a_loop_that_is_deleted_and_applied_again_goes_on_in_the_same_table(tmp_path: Path) -> None:
    async with archiving(tmp_path, loop_state()) as running:
        await running.publish(event(i) for i in range(10))
        await running.until_archived(10)
        running.loops.apply(loop_state(revision=2, sequence=2, deleted=True))
        await running.publish(event(i) for i in range(10, 15))
        await running.until_archived(15)
        running.loops.apply(loop_state(revision=3, sequence=3, life=3))
        await running.publish(event(i, revision=3) for i in range(15, 30))
        await running.until_archived(30)

    rows = running.archive.rows()
    assert [row["offset"] for row in rows] == list(range(30))
    assert [row["life"] for row in rows] == [1] * 10 + [None] * 5 + [3] * 15


async def test_the_records_of_a_loop_that_nobody_knows_are_archived_too(tmp_path: Path) -> None:
    async with archiving(tmp_path) as running:
        await running.publish(event(i, loop="gone", features={"price": i, "plan": "a"}) for i in range(10))
        await running.until_archived(10)

    rows = running.archive.rows(loop="gone")
    assert [row["features"] for row in rows] == [{"price": i, "plan": "a"} for i in range(10)]
    assert {row["life"] for row in rows} == {None}


async def test_a_record_that_is_no_event_is_left_out(tmp_path: Path) -> None:
    async with archiving(tmp_path, loop_state()) as running:
        await running.publish(event(i) for i in range(5))
        for value in (b"{", b'{"loop": "../../etc"}', None):
            await running.broker.append(TABLE.topic.name, b"market", value)
        await running.publish([event(5), event(6, loop="../../etc")])
        await running.until_archived(10)

    assert running.archive.offsets() == [0, 1, 2, 3, 4, 8]
    assert {path.name for path in tmp_path.iterdir()} == {"outcomes", "_everloop"}


async def test_a_full_table_is_written_before_its_time(tmp_path: Path) -> None:
    async with archiving(tmp_path, loop_state(), archive_seconds=1000, archive_rows=100) as running:
        await running.publish(event(i) for i in range(99))
        await running.until_read(99)
        assert running.archive.next_offset() == 0

        await running.publish([event(99)])
        await running.until_archived(100)


async def test_replicas_archive_the_partitions_that_they_learn_from(tmp_path: Path) -> None:
    async with archiving(tmp_path, *LOOPS, broker=MemoryBroker(partitions=4)) as running:
        running.assigned[:] = [0, 2]
        await running.publish(event(i, loop=state.loop) for i in range(20) for state in LOOPS)
        await until(lambda: set(running.archiver.partitions) == {(k, p) for k in KINDS for p in (0, 2)})
        running.assigned[:] = [1, 3]
        await until(lambda: set(running.archiver.partitions) == {(k, p) for k in KINDS for p in (1, 3)})
        running.assigned[:] = range(4)
        for partition in range(4):
            await running.until_archived(len(running.broker.log(TABLE.topic.name, partition)), partition)

    archived = {state.loop: running.archive.rows(loop=state.loop) for state in LOOPS}
    assert {loop: len(rows) for loop, rows in archived.items()} == dict.fromkeys(archived, 20)
    assert len({rows[0]["partition"] for rows in archived.values()}) == 4
