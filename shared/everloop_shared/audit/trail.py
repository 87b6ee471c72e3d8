"""Writes the records of one process to the audit's topic, within limits of memory and time."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from contextvars import Context
from typing import NamedTuple

from everloop_schemas.audit import RequestRecorded
from everloop_schemas.envelope import Event
from everloop_shared.access.callers import network_of
from everloop_shared.access.settings import AccessSettings
from everloop_shared.audit.errors import NotRecorded
from everloop_shared.audit.request import AuditedRequest
from everloop_shared.audit.spacing import RefusalSpacing
from everloop_shared.backoff import Backoff
from everloop_shared.metrics import AUDIT_LOST
from everloop_shared.tasks import cancel_all

log = logging.getLogger(__name__)
WITHIN_S = 5.0
"""How long a request waits for its record, at most; then it is refused."""
MAX_WAITING = 200
"""Requests that wait for their records; one more is refused at once."""
MAX_NOTED = 10_000
"""Answers and refusals that wait for the broker; later ones are lost, and counted."""
BATCH = 500
DRAIN_S = 1.5
COLLECT_EVERY_S = 1.0
BACKOFF = Backoff(first_s=0.1, longest_s=1.0)
Publish = Callable[[Sequence[Event]], Awaitable[None]]


class _Waiting(NamedTuple):
    event: RequestRecorded
    written: asyncio.Future[None]


class AuditTrail:
    """The records of one service. What it asks of the broker, no request waits for but those that must be recorded."""

    def __init__(self, service: str, publish: Publish, timer: Callable[[], float] = time.monotonic) -> None:
        self._service, self._publish, self._timer = service, publish, timer
        self._waiting: deque[_Waiting] = deque()
        self._noted: deque[RequestRecorded] = deque()
        self._spacing = RefusalSpacing()
        self._unwritten = self._in_flight = 0
        self._collects = False
        self._grown = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        AUDIT_LOST.labels(service)

    async def record(self, request: AuditedRequest) -> None:
        """Return once the broker has the record that this request came; raises NotRecorded, and nothing may be done."""
        if self._unwritten >= MAX_WAITING:
            raise NotRecorded(f"{MAX_WAITING} requests wait for their records in the audit; nothing was done")
        waiting = _Waiting(request.event("requested"), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._unwritten += 1
        self._wake()
        try:
            async with asyncio.timeout(WITHIN_S):
                await waiting.written
        except TimeoutError:
            raise NotRecorded(
                f"the broker has not acknowledged the record of this request within {WITHIN_S:g} s; nothing was done"
            ) from None
        finally:
            self._unwritten -= 1
            with suppress(ValueError):  # it is being written, or was
                self._waiting.remove(waiting)
        request.is_recorded = True

    def note_answer(self, request: AuditedRequest) -> None:
        """Write, when the broker takes it, how a request was answered that is recorded."""
        self._note(request.event("answered"))

    def note_refusal(self, request: AuditedRequest) -> None:
        """Write, when the broker takes it, that a request was refused: a few a second of an address."""
        left_out = self._spacing.admit(network_of(request.address), self._timer())
        if left_out is not None:
            self._note(request.event("refused", left_out))
        elif not self._collects:
            self._wake()  # so that their number is written when this second is over

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Write what is noted, within this time; for a service that stops."""
        if self._writer is None:
            return
        self._collect(self._timer() + COLLECT_EVERY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self._waiting or self._noted or self._in_flight:
                    await asyncio.sleep(0.01)
        await cancel_all([self._writer])
        self._writer = None
        if self._noted:
            self._lose(len(self._noted))

    def _note(self, event: RequestRecorded) -> None:
        if len(self._noted) >= MAX_NOTED:
            self._lose(1)
            return
        self._noted.append(event)
        self._wake()

    def _lose(self, count: int) -> None:
        AUDIT_LOST.labels(self._service).inc(count)
        log.error("answers and refusals are not in the audit", extra={"records": count})

    def _wake(self) -> None:
        self._grown.set()
        if self._writer is None or self._writer.done():  # without the trace and the identity of this request
            self._writer = asyncio.get_running_loop().create_task(self._write(), context=Context())

    async def _write(self) -> None:
        failures = 0
        while True:
            await self._wait_for_work()
            waiting = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
            waiting = [one for one in waiting if not one.written.done()]  # the others have given up
            noted = [self._noted.popleft() for _ in range(min(BATCH, len(self._noted)))]
            if await self._deliver(waiting, noted):
                failures = 0
            else:
                failures += 1
                await asyncio.sleep(BACKOFF.pause_s(failures))

    async def _deliver(self, waiting: Sequence[_Waiting], noted: Sequence[RequestRecorded]) -> bool:
        self._in_flight = len(waiting) + len(noted)
        is_written = True
        try:
            if waiting or noted:
                await self._publish([*(one.event for one in waiting), *noted])
        except Exception as e:  # whatever a broker's client raises, the next batch is tried
            is_written = False
            self._noted.extendleft(reversed(noted))
            log.warning("the audit cannot be written", extra={"reason": f"{type(e).__name__}: {e}"[:500]})
        finally:
            self._in_flight = 0
        for one in waiting:
            if one.written.done():
                continue
            if is_written:
                one.written.set_result(None)
            else:
                one.written.set_exception(
                    NotRecorded("the broker does not take the record of this request; nothing was done")
                )
        return is_written

    async def _wait_for_work(self) -> None:
        """Return when something is to be written; what was left out becomes records meanwhile."""
        while not self._waiting and not self._noted:
            self._grown.clear()
            self._collects = self._spacing.left_out > 0
            with suppress(TimeoutError):
                async with asyncio.timeout(COLLECT_EVERY_S if self._collects else None):
                    await self._grown.wait()
            self._collect(self._timer())
        self._collects = False

    def _collect(self, now: float) -> None:
        for address, count in self._spacing.collect(now):
            self._noted.append(AuditedRequest(self._service, address, "").event("left_out", count))


def audit_trail(service: str, settings: AccessSettings, publish: Publish) -> AuditTrail | None:
    """The trail of a service; None where EVERLOOP_AUDIT is off."""
    return AuditTrail(service, publish) if settings.has_audit else None
