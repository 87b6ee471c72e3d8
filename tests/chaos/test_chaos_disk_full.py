"""The disk is full for a while: clear errors, nothing acknowledged is lost, and it goes on once there is space."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.chaos.faults import FaultInjector
from tests.chaos.findings import Findings
from tests.chaos.installation import running
from tests.chaos.journal import Journal
from tests.chaos.load import loaded
from tests.chaos.run import ChaosReport, check, wait_for_rest
from tests.small_disk import mounted_disk

pytestmark = [pytest.mark.chaos, pytest.mark.timeout(500)]
SIZE_MB, FULL_S = 700, 20.0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, so small that it can be filled."""
    with mounted_disk(tmp_path / "disk", SIZE_MB) as folder:
        yield folder


def fill(folder: Path) -> Path:
    """Take what space there is."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    return filler


def test_filling_takes_all_of_it(small_disk: Path) -> None:
    fill(small_disk)

    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        (small_disk / "more").write_bytes(b"x" * 8192)


async def test_a_full_disk_is_reported_and_survived(small_disk: Path) -> None:
    journal, findings = Journal(), Findings()
    with running(small_disk / "installation") as installation:
        async with loaded(installation.url, journal) as load:
            while len(journal.observations) < 100:
                await asyncio.sleep(0.5)

            filler = fill(small_disk)
            async with asyncio.timeout(60):
                while not load.answers["events"].get(503):
                    await asyncio.sleep(0.5)
            await asyncio.sleep(FULL_S)
            filler.unlink()

            before = journal.acknowledged
            async with asyncio.timeout(120):
                while journal.acknowledged < before + 100:
                    await asyncio.sleep(0.5)
        await wait_for_rest(installation, journal, findings)
        await check(installation, journal, findings)
    assert not findings.found, ChaosReport(journal, FaultInjector(installation), findings).text()
