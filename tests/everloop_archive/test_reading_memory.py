"""Reading an archive needs little memory, however much it holds: the limit here is the kernel's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from tests.bench import archive_memory

from everloop_schemas.feature import OutcomeObserved

ROWS, TEXT_BYTES, LIMIT_MB = 30_000, 12_000, 250
"""360 MB of records, and what reading may need beside a process that has not begun."""

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="the limit on address space is Linux's"),
]
small = archive_memory.outcome


def large(i: int) -> OutcomeObserved:
    """An outcome with a long text, another one each time, that is small at rest."""
    outcome = small(i)
    features = {**outcome.data.features, "plan": f"{i} " * (TEXT_BYTES // len(f"{i} "))}
    return outcome.copy_with(data=msgspec.structs.replace(outcome.data, features=features))


def child(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Read it in a process of this limit; libraries' pools would take address space that they do not use."""
    command = (sys.executable, "-m", "tests.everloop_archive.memory_child", str(folder), str(ROWS), str(LIMIT_MB))
    env = {**os.environ, "MALLOC_ARENA_MAX": "1", "ARROW_DEFAULT_MEMORY_POOL": "system"}
    return subprocess.run([*command, *arguments], capture_output=True, text=True, env=env, timeout=200, check=False)


def test_a_data_set_larger_than_the_limit_is_read_within_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_memory, "outcome", large)
    digests = archive_memory.write(tmp_path, 0, ROWS)

    within, beyond = child(tmp_path), child(tmp_path, "all")

    assert within.returncode == 0, within.stderr
    assert within.stdout.split() == digests
    assert "MemoryError" in beyond.stderr  # the limit holds: all records at once do not fit
