"""Calls that last: health watches and reflection, limited in number, ended when the service stops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import grpc

MAX_STREAMS = 100
Context = grpc.aio.ServicerContext[Any, Any]


class Streams:
    """Runs the lasting calls of one kind. Without an end of their own they would hold up the drain."""

    def __init__(self, stopping: asyncio.Event, longest_s: float | None = None) -> None:
        self._stopping, self._longest_s = stopping, longest_s
        self._open = 0

    async def run(self, stream: Callable[[], Coroutine[Any, Any, None]], context: Context) -> None:
        """Run a stream until it ends, its time is over, or the service stops."""
        if self._open >= MAX_STREAMS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MAX_STREAMS} streams are open, the limit")
        self._open += 1
        running, stopping = asyncio.ensure_future(stream()), asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait([running, stopping], timeout=self._longest_s, return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()
            elif stopping.done():
                await context.abort(grpc.StatusCode.UNAVAILABLE, "the service is stopping; ask again")
        finally:
            self._open -= 1
            running.cancel()
            stopping.cancel()
