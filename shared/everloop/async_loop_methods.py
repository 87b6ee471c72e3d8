"""The async client's methods about loops: those of the sync one, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import httpx

from everloop import loop_requests as asks
from everloop import wire
from everloop.base_client import BaseClient
from everloop.errors import EverloopError, LoopNotUsedYet
from everloop.loop_files import (
    APPLIED_WITHIN_S,
    DATA_PATH,
    POLL_EVERY_S,
    YAML,
    Applied,
    LoopFile,
    change_of,
    read_loop_file,
)


class AsyncLoopMethods(BaseClient):
    """What the async client knows about loops: the methods of `LoopMethods`, awaited."""

    async def request(
        self,
        service: str,
        method: str,
        path: str,
        content: bytes | None = None,
        content_type: str = wire.JSON,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to any service; the client says how."""
        raise NotImplementedError

    async def aclose(self) -> None:
        """Close the connections of the running event loop."""
        raise NotImplementedError

    async def apply(self, file: LoopFile, *, within: float = APPLIED_WITHIN_S) -> Applied:
        """As `Everloop.apply`."""
        loop, content = await asyncio.to_thread(read_loop_file, file)
        before = asks.find_revision(await self.request(*asks.get_loop(loop)))
        revision = int(asks.read(await self.request(*asks.put_loop(loop, content, YAML)))["revision"])
        await self._wait_until_used(loop, revision, within)
        return Applied(loop, revision, change_of(before, revision))

    async def delete(self, loop: str, *, reason: str = asks.DECIDED) -> dict[str, Any]:
        """As `Everloop.delete`."""
        return await self._ask(asks.delete_loop(loop, reason))

    async def status(self, loop: str) -> dict[str, Any]:
        """As `Everloop.status`."""
        return await self._ask(asks.get_status(loop))

    async def runs(self, loop: str) -> list[dict[str, Any]]:
        """As `Everloop.runs`."""
        return await self._list(asks.get_runs(loop), "runs")

    async def versions(self, loop: str, *, as_of: asks.Moment = None) -> list[dict[str, Any]]:
        """As `Everloop.versions`."""
        return await self._list(asks.get_versions(loop, as_of), "versions")

    async def history(self, loop: str, *, as_of: asks.Moment = None) -> list[dict[str, Any]]:
        """As `Everloop.history`."""
        return await self._list(asks.get_history(loop, as_of), "decisions")

    async def alerts(self, loop: str, *, all: bool = False) -> list[dict[str, Any]]:
        """As `Everloop.alerts`."""
        return await self._list(asks.get_alerts(loop, all))

    async def drifts(self, loop: str, *, limit: int | None = None, early: bool = False) -> list[dict[str, Any]]:
        """As `Everloop.drifts`."""
        return await self._list(asks.get_drifts(loop, limit, early))

    async def retrain(self, loop: str, *, reason: str = asks.REQUESTED, key: str | None = None) -> dict[str, Any]:
        """As `Everloop.retrain`."""
        return await self._ask(asks.request_run(loop, reason, key))

    async def approve(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """As `Everloop.approve`."""
        return await self._ask(asks.command(loop, "approve", reason=reason, version=version))

    async def reject(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """As `Everloop.reject`."""
        return await self._ask(asks.command(loop, "reject", reason=reason, version=version))

    async def promote(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """As `Everloop.promote`."""
        return await self._ask(asks.command(loop, "promote", reason=reason, version=version))

    async def rollback(self, loop: str, *, reason: str = asks.DECIDED, to: str | None = None) -> dict[str, Any]:
        """As `Everloop.rollback`."""
        return await self._ask(asks.command(loop, "rollback", reason=reason, to=to))

    async def resume(self, loop: str, *, reason: str = asks.DECIDED) -> dict[str, Any]:
        """As `Everloop.resume`."""
        return await self._ask(asks.command(loop, "resume", reason=reason))

    async def _ask(self, asked: asks.LoopRequest) -> dict[str, Any]:
        return asks.read(await self.request(*asked))

    async def _list(self, asked: asks.LoopRequest, part: str | None = None) -> list[dict[str, Any]]:
        return asks.read_rows(await self.request(*asked), part)

    async def _wait_until_used(self, loop: str, revision: int, within: float) -> None:
        deadline, waiting = time.monotonic() + within, list(DATA_PATH)
        impatient = self._impatient()
        try:
            while waiting := [service for service in waiting if not await impatient._uses(service, loop, revision)]:
                if time.monotonic() > deadline:
                    raise LoopNotUsedYet(loop, revision, waiting, within)
                await asyncio.sleep(POLL_EVERY_S)
        finally:
            await impatient.aclose()

    async def _uses(self, service: str, loop: str, revision: int) -> bool:
        try:
            found = asks.find_revision(await self.request(*asks.get_loop(loop, service)))
        except EverloopError as e:
            if asks.may_pass(e):
                return False
            raise
        return found is not None and found >= revision
