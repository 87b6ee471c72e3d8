"""How long a fetch waits for records: long where all partitions are asked for, short where some are left out."""

from __future__ import annotations

import time
from typing import Any

from aiokafka.consumer.fetcher import Fetcher  # type: ignore[import-untyped]

PARTIAL_WAIT_MS = 50
FORGOTTEN_AFTER_S = 5.0
"""Records that nobody has taken for so long are not about to be taken (Faust never takes those of its changelogs)."""


class PatientFetcher(Fetcher):  # type: ignore[misc]
    """aiokafka's fetcher, one fetch at a time per broker, which may wait long without delaying records.

    A fetch of all partitions returns as soon as any of them has a record, so it may wait long, and an idle consumer
    asks rarely. But one that leaves out partitions, because they are paused or their last records were not taken yet,
    delays these: their next records are fetched after it has returned.
    """

    _fetch_max_wait_ms: int

    def _get_actions_per_node(self, assignment: Any) -> Any:
        longest_ms = self._fetch_max_wait_ms
        if self._leaves_out(assignment):
            self._fetch_max_wait_ms = min(longest_ms, PARTIAL_WAIT_MS)
        try:
            return super()._get_actions_per_node(assignment)
        finally:
            self._fetch_max_wait_ms = longest_ms

    def _leaves_out(self, assignment: Any) -> bool:
        since = time.monotonic() - FORGOTTEN_AFTER_S
        if any(fetched._created > since for fetched in self._records.values()):
            return True
        return any(assignment.state_value(tp).paused for tp in assignment.tps)
