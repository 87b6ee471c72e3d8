"""The lifecycle of a service: start its parts, serve HTTP, stop cleanly on a signal, exit loudly on a failure."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn
from fastapi import APIRouter

from everloop_shared.errors import Misconfigured
from everloop_shared.http import create_app
from everloop_shared.http.connections import Connections
from everloop_shared.logging import configure_logging
from everloop_shared.messaging.routes import Engine
from everloop_shared.settings import PRIVATE, Settings

log = logging.getLogger(__name__)
DRAIN_S = 10.0
DOOR_DRAIN_S = 3
OUTLIVED_S = 5.0
"""Shorter than any session: who stood still for longer may have been replaced."""


@dataclass
class Service:
    """What a composition root builds: the parts of one service, started in order and stopped in reverse.

    HTTP answers first (/readyz says "starting"), then `resources` are entered, the engines started, and
    `background` jobs run until the stop; one that ends with an exception ends the process. On the stop the door
    closes first, so that nothing new comes in while the rest drains. `ready` adds checks to /readyz: each returns
    None or, in words, why not. One that `answers_alone` stays ready while the broker is away: taken out of a load
    balancer then, it would refuse what it could have answered.
    """

    name: str
    settings: Settings
    router: APIRouter
    engines: Sequence[Engine] = ()
    resources: Sequence[AbstractAsyncContextManager[object]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    ready: Sequence[Callable[[], str | None]] = ()
    answers_alone: bool = False
    _state: str | None = field(default="starting", init=False)

    def not_ready(self) -> str | None:
        """None when every part is ready, else the first reason why not."""
        if self._state:
            return self._state
        engines = () if self.answers_alone else self.engines
        checks = [engine.ready for engine in engines] + list(self.ready)
        return next((reason for check in checks if (reason := check())), None)

    def not_live(self) -> str | None:
        """None when no engine stands still."""
        return next((reason for engine in self.engines if (reason := engine.live())), None)

    async def run(self, stop: asyncio.Event) -> None:
        """Run until `stop` is set or a part fails, then drain; raises what failed."""
        stopped = asyncio.ensure_future(stop.wait())
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_cancelled, [stopped])
            server, serving = self._open_door()
            stack.push_async_callback(_closed, server, serving)
            starting = asyncio.ensure_future(self._start(stack))
            first: list[asyncio.Future[Any]] = [starting, serving, stopped]
            await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
            await _cancelled([starting])
            if serving.done():
                serving.result()
            if not starting.cancelled():
                jobs = starting.result()
                stack.push_async_callback(_cancelled, jobs)
                stack.push_async_callback(_closed, server, serving)
                self._state = None
                log.info("ready")
                await self._until(stopped, [serving, *jobs])
            self._state = "draining"
        log.info("stopped")

    def _open_door(self) -> tuple[uvicorn.Server, asyncio.Future[None]]:
        door = _listen(self.name, self.settings)
        log.info("listening", extra={"url": "http://{}:{}".format(*door.getsockname()[:2])})
        connections = Connections(self.name, self.settings)
        config = uvicorn.Config(
            create_app(self),
            http=connections.protocol(),
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=DOOR_DRAIN_S,
        )
        server = _Server(config, connections)
        return server, asyncio.ensure_future(server.serve([door]))

    async def _start(self, stack: AsyncExitStack) -> list[asyncio.Future[None]]:
        for resource in self.resources:
            await stack.enter_async_context(resource)
        for engine in self.engines:
            stack.push_async_callback(engine.stop)
            await engine.start()
        return [asyncio.ensure_future(job()) for job in self.background]

    async def _until(self, stopped: asyncio.Future[Any], running: list[asyncio.Future[None]]) -> None:
        failures = [asyncio.ensure_future(engine.failed()) for engine in self.engines]
        waiting: set[asyncio.Future[Any]] = {stopped, *running, *failures}
        try:
            while not stopped.done():
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for future in done:
                    result = future.result()  # raises what ended a job or the door
                    if future in failures:
                        raise result
        finally:
            await _cancelled(failures)


class _Server(uvicorn.Server):
    """uvicorn inside our own process: signals are ours, and so is how long a connection may keep us waiting."""

    def __init__(self, config: uvicorn.Config, connections: Connections) -> None:
        super().__init__(config)
        self._connections = connections

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second, of which one looks at the connections."""
        if counter % 10 == 0:
            self._connections.close_overdue(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def _listen(name: str, settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        return socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as e:
        where = f"{settings.host}:{settings.port}"
        raise Misconfigured(
            f"EVERLOOP_{name.upper()}_PORT, EVERLOOP_HOST: cannot listen on {where} ({e.strerror}); choose another port"
        ) from e


async def _closed(server: uvicorn.Server, serving: asyncio.Future[None]) -> None:
    server.should_exit = True
    await asyncio.wait([serving])


async def _cancelled(futures: Iterable[asyncio.Future[Any]]) -> None:
    unfinished = [f for f in futures if not f.done()]
    for future in unfinished:
        future.cancel()
    if unfinished:
        await asyncio.wait(unfinished)


class _Awake:
    """Ends a process that was stopped for so long that others have taken over its partitions.

    Woken, it would go on with what it held: its producer sends, and a state written late hides a newer one. The
    handler of SIGCONT runs before any of that does.
    """

    def __init__(self) -> None:
        self._seen = time.monotonic()
        signal.signal(signal.SIGCONT, self._woken)

    def _woken(self, *_: object) -> None:
        if (away_s := time.monotonic() - self._seen) > OUTLIVED_S:
            os.write(2, b"stopped for %.0f s, longer than the broker waits: starting afresh\n" % away_s)
            os._exit(os.EX_TEMPFAIL)

    async def watch(self) -> None:
        """Note the time, as long as there is somebody to note it."""
        while True:
            self._seen = time.monotonic()
            await asyncio.sleep(0.5)


async def _main(service: Service) -> None:
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    watching = asyncio.ensure_future(_Awake().watch())
    try:
        await _run_until_signal(service, loop, stop)
    finally:
        await _cancelled([watching])


async def _run_until_signal(service: Service, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    running, stopping = asyncio.ensure_future(service.run(stop)), asyncio.ensure_future(stop.wait())
    await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
    done, _ = await asyncio.wait([running], timeout=DRAIN_S)
    await _cancelled([stopping])
    if not done:
        running.cancel()
        raise TimeoutError(f"the drain took longer than {DRAIN_S:.0f} s")
    await running


def _spare_the_collector() -> None:
    """A batch of events is thousands of objects without cycles: each collection would walk all of them in vain.

    What is imported and built is never looked at again, and collections come a tenth as often (decision 0096: a fifth
    of the CPU time of an event).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def run(build: Callable[[], Service]) -> None:
    """Build and run a service as this process's main job.

    Exit status: 0 after SIGTERM or SIGINT, 1 after a failure (its traceback is in the log), 2 when misconfigured.
    """
    import uvloop

    service = None
    os.umask(PRIVATE)
    try:
        service = build()
        configure_logging(service.name, service.settings.log_level)
        _spare_the_collector()
        uvloop.run(_main(service))
    except Misconfigured as e:
        sys.stderr.write(f"everloop{f' {service.name}' if service else ''}: {e.detail}\n")
        raise SystemExit(2) from None
    except Exception:
        log.exception("stopped by a failure")
        raise SystemExit(1) from None
