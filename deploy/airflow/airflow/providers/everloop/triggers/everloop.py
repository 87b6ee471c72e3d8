"""Triggers: one waits for an event of a loop on behalf of a task, the other reports them all to an asset."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from airflow.providers.everloop.events import (
    RUN_REQUESTED,
    Cursor,
    Payload,
    behind,
    check_event,
    fetch,
    from_time,
    is_meant,
    read_events,
    split_new,
)
from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.triggers.base import BaseEventTrigger, BaseTrigger, TriggerEvent

from everloop import AsyncEverloop, EverloopError, EverloopHTTPError

POLL_INTERVAL_S = 10.0
RETRY_FOR_S = 5.0
SETTLED_S = 30.0
"""An event that was handed over is in Airflow's database by then; before, the position stays where it was."""


class EverloopWaitTrigger(BaseTrigger):
    """Waits for one event of a loop after a position, and fires it; `{"error": ...}` where the services refuse.

    A trigger that is started again waits from the same position: nothing that happened meanwhile is missed.
    """

    def __init__(
        self,
        event: str,
        loop: str,
        everloop_conn_id: str = EverloopHook.default_conn_name,
        cursor: Cursor | None = None,
        where: Mapping[str, Any] | None = None,
        poll_interval: float = POLL_INTERVAL_S,
    ) -> None:
        super().__init__()
        self.event, self.loop, self.everloop_conn_id = check_event(event), loop, everloop_conn_id
        self.cursor, self.where, self.poll_interval = cursor or from_time(None), dict(where or {}), poll_interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path and arguments, all of them JSON."""
        names = ("event", "loop", "everloop_conn_id", "cursor", "where", "poll_interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll until there is one."""
        async with _connected(self.everloop_conn_id) as client:
            while True:
                try:
                    listed = read_events(self.event, self.loop, await fetch(client, self.event, self.loop))
                    found = [f for f in split_new(listed, self.cursor) if is_meant(f, self.where)]
                    if found:
                        yield TriggerEvent(found[0])
                        return
                except EverloopError as e:
                    if is_refusal(e):
                        yield TriggerEvent({"error": str(e)})
                        return
                    self.log.warning("Everloop does not answer, trying again: %s", e)
                await asyncio.sleep(self.poll_interval)


class EverloopEventTrigger(BaseEventTrigger):
    """Reports every event of a loop to the assets that watch it: each at least once, by its `id`.

    The position is kept in the state of the asset, so that a triggerer that starts again goes on from there. What was
    reported within the last half a minute before it ended may be reported again. At its first start everything that
    has happened already is passed over, or what happened before `since` (RFC 3339), but not runs that still wait.
    """

    def __init__(
        self,
        event: str,
        loop: str,
        everloop_conn_id: str = EverloopHook.default_conn_name,
        where: Mapping[str, Any] | None = None,
        since: str | None = None,
        poll_interval: float = POLL_INTERVAL_S,
    ) -> None:
        super().__init__()
        self.event, self.loop, self.everloop_conn_id = check_event(event), loop, everloop_conn_id
        self.where, self.since, self.poll_interval = dict(where or {}), since, poll_interval
        self._reported: deque[tuple[float, Cursor]] = deque()

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Path and arguments, all of them JSON."""
        names = ("event", "loop", "everloop_conn_id", "where", "since", "poll_interval")
        return f"{__name__}.{type(self).__name__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Poll for ever."""
        cursor = await self._stored()
        async with _connected(self.everloop_conn_id) as client:
            while True:
                try:
                    listed = read_events(self.event, self.loop, await fetch(client, self.event, self.loop))
                    if cursor is None:
                        cursor = from_time(None) if self.event == RUN_REQUESTED else behind(listed)
                        await self._store(cursor)
                    if new := split_new(listed, cursor):
                        for found in new:
                            if is_meant(found, self.where):
                                yield TriggerEvent(found)
                        cursor = behind(listed)
                        self._reported.append((time.monotonic(), cursor))
                    await self._store_settled()
                except EverloopError as e:
                    self.log.warning("Everloop does not answer, trying again: %s", e)
                await asyncio.sleep(self.poll_interval)

    @property
    def _key(self) -> str:
        return f"everloop/{self.everloop_conn_id}/{self.loop}/{self.event}"

    async def _stored(self) -> Cursor | None:
        found = await self.asset_state_store.aget(self._key) if self.asset_state_store else None
        return found if isinstance(found, dict) else from_time(self.since) if self.since else None

    async def _store(self, cursor: Cursor) -> None:
        if self.asset_state_store:
            await self.asset_state_store.aset(self._key, cursor)

    async def _store_settled(self) -> None:
        settled = None
        while self._reported and self._reported[0][0] < time.monotonic() - SETTLED_S:
            settled = self._reported.popleft()[1]
        if settled is not None:
            await self._store(settled)


@asynccontextmanager
async def _connected(everloop_conn_id: str) -> AsyncIterator[AsyncEverloop]:
    async with await EverloopHook(everloop_conn_id, RETRY_FOR_S).aget_conn() as client:
        yield client


def is_refusal(error: EverloopError) -> bool:
    """Whether a later request would be refused as well."""
    return isinstance(error, EverloopHTTPError) and error.status in (400, 401, 403, 404, 422)


def read_fired(event: Payload | None) -> Payload:
    """The event that a trigger has fired. Raises RuntimeError where it could not wait."""
    if not event or "error" in event:
        raise RuntimeError((event or {}).get("error", "the trigger fired no event"))
    return event
