"""Counts, across restarts, how often the record at one offset has crashed the process."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from everloop_shared.messaging.routes import Position

log = logging.getLogger(__name__)
MAX_POSITIONS = 100


class CrashLedger:
    """Counts of the last crashes by position, in a small file that outlives the process; without a path, in memory."""

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._counts: dict[str, int] = {}
        if path and path.exists():
            try:
                self._counts = {str(k): int(v) for k, v in json.loads(path.read_text()).items()}
            except (ValueError, AttributeError, OSError):
                log.warning("crash ledger unreadable, starting a new one", extra={"path": str(path)})

    def add(self, at: Position) -> int:
        """Count one more crash at this position and return how many there were."""
        key = f"{at.topic}/{at.partition}/{at.offset}"
        count = self._counts.pop(key, 0) + 1
        self._counts[key] = count
        self._counts = dict(list(self._counts.items())[-MAX_POSITIONS:])
        self._write()
        return count

    def _write(self) -> None:
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh = self._path.with_suffix(".new")
            fresh.write_text(json.dumps(self._counts))
            os.replace(fresh, self._path)
        except OSError as e:
            log.warning("crash ledger not written", extra={"path": str(self._path), "reason": str(e)})
