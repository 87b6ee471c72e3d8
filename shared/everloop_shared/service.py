"""The lifecycle of a service: start its parts in order, run until a stop or a failure, drain."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from everloop_shared.endpoint import Endpoint
from everloop_shared.messaging.routes import Consumer
from everloop_shared.settings import Settings
from everloop_shared.spans.recorders import recorder_of
from everloop_shared.spans.started import stop_spans
from everloop_shared.tasks import cancel_all

log = logging.getLogger(__name__)


@dataclass
class Service:
    """What a composition root builds: the parts of one service, started in order and stopped in reverse.

    The endpoints start first (/readyz reports "starting"), then `resources` are entered and the consumers started, and
    the `background` jobs run until the stop; a job that raises ends the process. On a stop the endpoints drain first,
    so that nothing new arrives while the other parts finish.

    `readiness` adds checks to /readyz: each returns None, or the reason why the service is not ready. A service that
    is `ready_without_broker` stays ready during an outage of Kafka: a load balancer that took it out would refuse
    requests which it can answer. `remarks` are said at /readyz and change nothing: each returns what people should
    know.
    """

    name: str
    settings: Settings
    endpoints: Sequence[Endpoint] = ()
    consumers: Sequence[Consumer] = ()
    resources: Sequence[AbstractAsyncContextManager[object]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    readiness: Sequence[Callable[[], str | None]] = ()
    remarks: Sequence[Callable[[], Sequence[str]]] = ()
    ready_without_broker: bool = False
    _state: str | None = field(default="starting", init=False)

    def not_ready(self) -> str | None:
        """None when every part is ready, else the first reason why not."""
        if self._state:
            return self._state
        consumers = () if self.ready_without_broker else self.consumers
        checks = [*(e.not_ready for e in self.endpoints), *(c.ready for c in consumers), *self.readiness]
        return next((reason for check in checks if (reason := check())), None)

    def not_live(self) -> str | None:
        """None while every consumer makes progress, else the first reason why not."""
        return next((reason for consumer in self.consumers if (reason := consumer.live())), None)

    def remarked(self) -> list[str]:
        """What people should know although the service is ready."""
        return [remark for say in self.remarks for remark in say()]

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or a part fails, then drain; raises what failed."""
        stopped = asyncio.ensure_future(stop.wait())
        async with AsyncExitStack() as stack:
            stack.push_async_callback(cancel_all, [stopped])
            ended = await self._start_endpoints(stack)
            try:
                await self._run_parts(stack, stopped, ended)
            finally:  # also where a consumer still waits for the broker: its service may be answering all the same
                self._state = "draining"
                await self._drain_endpoints()
        if recorder_of(self.name) is not None:
            await asyncio.to_thread(stop_spans, self.name)  # after the last request and record
        log.info("stopped")

    async def _run_parts(
        self, stack: AsyncExitStack, stopped: asyncio.Future[Any], ended: list[asyncio.Future[None]]
    ) -> None:
        """Start the parts and run them until `stopped` is done or one of them fails."""
        starting = asyncio.ensure_future(self._start_parts(stack))
        await asyncio.wait([starting, stopped, *ended], return_when=asyncio.FIRST_COMPLETED)
        await cancel_all([starting])
        for future in ended:
            if future.done():
                future.result()
        if not starting.cancelled():
            jobs = starting.result()
            stack.push_async_callback(cancel_all, jobs)
            self._state = None
            log.info("ready")
            await self._wait_for_stop(stopped, [*ended, *jobs])

    async def _start_endpoints(self, stack: AsyncExitStack) -> list[asyncio.Future[None]]:
        for endpoint in self.endpoints:
            stack.push_async_callback(endpoint.drain)
            await endpoint.start(self)
        ended: list[asyncio.Future[None]] = [asyncio.ensure_future(e.ended()) for e in self.endpoints]
        stack.push_async_callback(cancel_all, ended)
        return ended

    async def _drain_endpoints(self) -> None:
        await asyncio.gather(*(endpoint.drain() for endpoint in self.endpoints))

    async def _start_parts(self, stack: AsyncExitStack) -> list[asyncio.Future[None]]:
        for resource in self.resources:
            await stack.enter_async_context(resource)
        for consumer in self.consumers:
            stack.push_async_callback(consumer.stop)
            await consumer.start()
        return [asyncio.ensure_future(job()) for job in self.background]

    async def _wait_for_stop(self, stopped: asyncio.Future[Any], running: list[asyncio.Future[None]]) -> None:
        failures = [asyncio.ensure_future(consumer.failed()) for consumer in self.consumers]
        waiting: set[asyncio.Future[Any]] = {stopped, *running, *failures}
        try:
            while not stopped.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    result = future.result()  # raises what ended a job or an endpoint
                    if future in failures:
                        raise result
        finally:
            await cancel_all(failures)
