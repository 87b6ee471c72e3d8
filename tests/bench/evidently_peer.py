"""Evidently as a peer of the bench: its drift preset, in an environment of its own that is made when it is needed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from tests.bench.drift_detectors import Told
from tests.integrations.environments import NotMade, find, make

from everloop_schemas.envelope import Fields

ENVIRONMENT = "evidently"
PROGRAM = Path(__file__).with_name("evidently_drift.py")
REFERENCE, WINDOW, EVERY = 1_000, 500, 250
"""Rows: what it compares with, how many it compares at a time, and after how many it is asked again."""


class Peer(NamedTuple):
    """The Python of the environment, or why there is none."""

    python: str | None
    why_not: str = ""


def find_peer(quick: bool) -> Peer:
    """Make the environment, unless it is there; a quick run does not, and neither does one without a network."""
    if quick:
        return Peer(None, "Evidently is skipped by --quick")
    try:
        make(ENVIRONMENT)
        return Peer(find(ENVIRONMENT).python)
    except NotMade as e:
        return Peer(None, f"Evidently is skipped, its environment cannot be made here: {e}")


class Evidently:
    """A running process; what it answered is remembered, because two readings of it are shown."""

    def __init__(self, requests: IO[str], answers: IO[str]) -> None:
        self._requests, self._answers = requests, answers
        self._known: dict[int, list[dict[str, object]]] = {}

    def any_column(self, rows: Iterable[Fields]) -> Iterator[Told]:
        """The windows in which any column has drifted, with the column whose test says most."""
        return self._drifts(rows, whole=False)

    def data_set(self, rows: Iterable[Fields]) -> Iterator[Told]:
        """The windows that it calls a drift of the data set."""
        return self._drifts(rows, whole=True)

    def errors(self, errors: Sequence[int]) -> Iterator[int]:
        """The windows in which a model's errors have drifted, as the only column."""
        return (told.row for told in self.any_column({"error": float(error)} for error in errors))

    def _drifts(self, rows: Iterable[Fields], whole: bool) -> Iterator[Told]:
        task = json.dumps({"rows": list(rows), "reference": REFERENCE, "window": WINDOW, "every": EVERY})
        if hash(task) not in self._known:
            self._requests.write(f"{task}\n")
            self._requests.flush()
            self._known[hash(task)] = json.loads(self._answers.readline())
        for one in self._known[hash(task)]:
            if one["feature"] and (one["whole"] or not whole):
                yield Told(int(str(one["row"])), str(one["feature"]))


@contextmanager
def evidently(python: str) -> Iterator[Evidently]:
    """Evidently by its defaults, ended with the block."""
    with subprocess.Popen([python, PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None, "it is a pipe"
        assert process.stdout is not None, "it is a pipe"
        try:
            yield Evidently(process.stdin, process.stdout)
        finally:
            process.stdin.close()
