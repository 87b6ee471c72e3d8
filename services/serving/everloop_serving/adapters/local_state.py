"""What serving stores on local disk, so that it can answer after a restart while everything else is down."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Self

from everloop_models.store import remove_leftovers, write_atomically
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_serving.adapters.loaded_loops import LoadedLoops
from everloop_serving.domain.label_counts import LabelCountsByLoop
from everloop_shared.messaging.routes import LogReader

if TYPE_CHECKING:
    from everloop_shared.signing.trust import TrustStore

log = logging.getLogger(__name__)
REASON_LENGTH = 500


class LocalState:
    """Loop states and label statistics in `folder`: restored on entering, saved often and on leaving.

    Without these files, or with damaged ones, a start takes longer and loses nothing: the topics have everything.
    States that `trust` does not admit are left out.
    """

    def __init__(
        self, folder: Path, loops: LoadedLoops, labels: LabelCountsByLoop, trust: TrustStore | None = None
    ) -> None:
        self._folder, self._trust = folder, trust
        self._loops_file, self._labels_file = folder / "loops.jsonl", folder / "labels.json"
        self._loops, self._labels = loops, labels
        self._saved: dict[Path, object] = {}

    async def __aenter__(self) -> Self:
        for folder in (self._folder, self._folder / "artifacts"):
            remove_leftovers(folder)
        self._restore_labels()
        try:
            lines = self._loops_file.read_bytes().splitlines() if self._loops_file.exists() else []
        except OSError as e:
            lines = []
            reason = str(e)[:REASON_LENGTH]
            log.warning("loop states unreadable, waiting for the registry's topic", extra={"reason": reason})
        for line in lines:
            try:
                state = LoopState.decode(line)
                if self._trust is not None:
                    _check(state, line, self._trust)
                self._loops.apply(state)
            except Exception as e:  # that loop is not answered before its topic is read; the start goes on
                reason = repr(e)[:REASON_LENGTH]
                log.warning("a loop's state is not usable, waiting for the registry's topic", extra={"reason": reason})
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._loops.close()
        await self.save()

    async def save_often(self, every_s: float) -> None:
        """Save what has changed, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.save()

    async def save(self) -> None:
        """Save what has changed since the last time; where the disk refuses, that is logged and tried again."""
        states = self._loops.known.all()
        current = {
            self._loops_file: {s.loop: s.data.sequence for s in states},
            self._labels_file: dict(self._labels.offsets),
        }
        for path, content in current.items():
            if self._saved.get(path, {}) == content:
                continue
            data = b"\n".join(s.encode() for s in states) if path == self._loops_file else self._labels_json()
            try:
                await asyncio.to_thread(write_atomically, path, data)
            except OSError as e:
                log.error("not saved", extra={"file": str(path), "reason": e.strerror or str(e)})
            else:
                self._saved[path] = content

    def _labels_json(self) -> bytes:
        return json.dumps(self._labels.state()).encode()

    def _restore_labels(self) -> None:
        try:
            self._labels.restore(json.loads(self._labels_file.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            self._labels.reset()
            reason = repr(e)[:REASON_LENGTH]
            log.warning("label statistics unreadable, counting from the start", extra={"reason": reason})


def _check(state: LoopState, line: bytes, trust: TrustStore) -> None:
    from everloop_shared.signing.events import check_event  # its library is loaded where keys are trusted

    check_event(state, line, trust)


class OutcomeOffsets:
    """Where each partition of the outcome log is read on from: the end of the saved statistics."""

    def __init__(self, labels: LabelCountsByLoop, log_reader: LogReader) -> None:
        self._labels, self._log_reader = labels, log_reader
        self._checked = False

    async def start_at(self, topic: str, partition: int) -> int | None:
        """The route's `start_at`. Statistics from beyond the log's end belong to another log and are reset."""
        if not self._checked:
            for p, offset in list(self._labels.offsets.items()):
                if offset > await self._log_reader.end_offset(OutcomeObserved.topic, p):
                    log.warning("label statistics belong to another log, counting from the start")
                    self._labels.reset()
            self._checked = True
        return self._labels.offsets.get(partition)
