"""The archiver is killed between any two of its writes: each record is archived once, and no other file stays."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import deltalake
import pytest
from tests.training.archive_harness import archiving, days_of_outcomes, hurry
from tests.training.training_harness import state

from everloop_archive.layout import TableName

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]
COUNT = 60
ROOT = Path(__file__).parents[2]
TABLE = TableName("outcomes", "market")


def run_killed(*kills: tuple[Path, int]) -> list[str]:
    """Run archivers one after the other, each killed after so many writes; which of them were."""
    arguments = [str(COUNT), *(f"{folder}={writes}" for folder, writes in kills)]
    command = [sys.executable, "-m", "tests.training.killed_archiver", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True, text=True).stdout.split()


async def check(folder: Path) -> None:
    """Archive the rest, and check that all is there once."""
    async with archiving(folder, state()) as running:
        await running.publish(days_of_outcomes(COUNT + 10))
        await running.until_archived(COUNT + 10)

    assert running.archive.offsets() == list(range(COUNT + 10))
    assert running.archive.data_files() == running.archive.named_files(TABLE)
    assert deltalake.DeltaTable(str(folder / TABLE.folder)).to_pyarrow_table().num_rows == COUNT + 10


async def test_a_kill_after_any_write_loses_nothing_and_writes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    kills = [(tmp_path / str(writes), writes) for writes in range(1, 9)]  # list, table, 3 files, commit, list, position

    assert run_killed(*kills) == ["True"] * len(kills)

    for folder, _ in kills:
        await check(folder)


async def test_an_archive_whose_writer_is_killed_again_and_again_ends_up_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)

    assert "True" in run_killed(*((tmp_path, writes) for writes in (3, 5, 2, 8, 4, 7, 6)))

    await check(tmp_path)
