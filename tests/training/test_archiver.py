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
from tests.training.archive_harness import archiving, hurry
from tests.training.training_harness import event

from everloop_archive.layout import TableName
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.memory import MemoryBroker
from everloop_training.app import build
from everloop_training.settings import TrainingSettings


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
        imported = sorted(name for name in sys.modules if name.split(".")[0] in ("pyarrow", "everloop_archive"))
        measured = [line for line in generate_latest().decode().splitlines() if line.startswith("everloop_archive")]
        print(imported, measured)
    """
    command = [sys.executable, "-c", dedent(program), str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[] []\n"


def test_a_url_that_cannot_be_used_is_refused_at_the_start(tmp_path: Path) -> None:
    settings = TrainingSettings(data=tmp_path, port=0, archive="nowhere://bucket")

    with pytest.raises(Misconfigured, match=r"EVERLOOP_ARCHIVE: 'nowhere://bucket' cannot be used"):
        build(settings, MemoryBroker().engine)
