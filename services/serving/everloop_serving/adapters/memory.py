"""What serving remembers on local disk, so that it can answer after a restart with nothing else up."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Self

from everloop_models.store import remove_leftovers, write_atomically
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.registry import LoopState
from everloop_serving.adapters.models import LoadedModels
from everloop_serving.domain.labels import LabelBook
from everloop_shared.messaging.routes import LogReader

log = logging.getLogger(__name__)


class LocalMemory:
    """Loop states and label statistics in `folder`: taken back on entering, saved often and on leaving.

    Losing or damaging the files costs nothing but a longer start: the topics hold the truth.
    """

    def __init__(self, folder: Path, models: LoadedModels, labels: LabelBook) -> None:
        self._folder = folder
        self._states, self._labels_file = folder / "loops.jsonl", folder / "labels.json"
        self._models, self._labels = models, labels
        self._saved: dict[Path, object] = {}

    async def __aenter__(self) -> Self:
        for folder in (self._folder, self._folder / "artifacts"):
            remove_leftovers(folder)
        self._restore_labels()
        try:
            lines = self._states.read_bytes().splitlines() if self._states.exists() else []
        except OSError as e:
            lines = []
            log.warning("loop states unreadable, waiting for the registry's topic", extra={"reason": str(e)[:500]})
        for line in lines:
            try:
                self._models.want(LoopState.model_validate_json(line))
            except Exception as e:  # one that cannot be used costs that loop its early answers, not the start
                log.warning("a loop's state is not usable, waiting for the topic", extra={"reason": repr(e)[:500]})
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._models.close()
        await self.save()

    async def save_often(self, every_s: float) -> None:
        """Save what has changed, for ever."""
        while True:
            await asyncio.sleep(every_s)
            await self.save()

    async def save(self) -> None:
        """Save what has changed since the last time; a disk that refuses is logged, and asked again."""
        states = self._models.known.all()
        marks = {self._states: {s.loop: s.data.sequence for s in states}, self._labels_file: dict(self._labels.offsets)}
        for path, mark in marks.items():
            if self._saved.get(path, {}) == mark:
                continue
            data = b"\n".join(s.encode() for s in states) if path == self._states else self._labels_json()
            try:
                await asyncio.to_thread(write_atomically, path, data)
            except OSError as e:
                log.error("not saved", extra={"file": str(path), "reason": e.strerror or str(e)})
            else:
                self._saved[path] = mark

    def _labels_json(self) -> bytes:
        return json.dumps(self._labels.state()).encode()

    def _restore_labels(self) -> None:
        try:
            self._labels.restore(json.loads(self._labels_file.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            self._labels.forget()
            log.warning("label statistics unreadable, counting from the start", extra={"reason": repr(e)[:500]})


class OutcomePlaces:
    """Where the outcome log is read on from: where the saved statistics end."""

    def __init__(self, labels: LabelBook, log: LogReader) -> None:
        self._labels, self._log = labels, log
        self._checked = False

    async def start(self, topic: str, partition: int) -> int | None:
        """The route's `start_at`. Statistics from beyond the log's end are of another log, and forgotten."""
        if not self._checked:
            for p, offset in list(self._labels.offsets.items()):
                if offset > await self._log.end_offset(OutcomeObserved.topic, p):
                    log.warning("label statistics are of another log, counting from the start")
                    self._labels.forget()
            self._checked = True
        return self._labels.offsets.get(partition)
