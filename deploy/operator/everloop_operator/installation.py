"""Asks an Everloop installation, by its client, within limits that a thousand loops keep."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from everloop import AsyncEverloop, EverloopError, EverloopHTTPError
from everloop.loop_files import DATA_PATH
from everloop.loop_requests import LoopRequest, delete_loop, get_loop, get_status, put_loop, read
from everloop.wire import JSON
from everloop_operator.errors import Refused, Unavailable

MAX_AT_ONCE = 4
"""Requests in progress: each spec is tried in a process of its own, and the registry has other callers."""
LISTED = ("revision", "champion", "stage", "share", "pinned")
REFUSALS = (400, 404, 409, 412, 413, 415, 422)
FORBIDDEN = (401, 403)


class Installation:
    """One installation. All methods raise Unavailable where it does not answer as it should.

    A service that cannot be reached is not asked again for `poll_s` seconds, however many resources there are.
    """

    def __init__(self, client: AsyncEverloop, poll_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._client, self._poll_s, self._clock = client, poll_s, clock
        self._at_once, self._listing = asyncio.Semaphore(MAX_AT_ONCE), asyncio.Lock()
        self._listed: dict[str, dict[str, Any]] = {}
        self._asked = float("-inf")
        self._away: dict[str, tuple[float, Unavailable]] = {}

    async def listed(self) -> Mapping[str, Mapping[str, Any]]:
        """Revision, champion, stage, share and pin of every loop, `poll_s` old at most: one request for all."""
        async with self._listing:
            if self._clock() - self._asked >= self._poll_s:
                answer = await self._ask(LoopRequest("registry", "GET", "/v1/loops"))
                self._listed = {entry["loop"]: {key: entry[key] for key in LISTED} for entry in answer["loops"]}
                self._asked = self._clock()
            return self._listed

    async def apply(self, loop: str, file: bytes) -> int:
        """Apply a loop file as JSON; the revision. Raises Refused."""
        view = await self._ask(put_loop(loop, file, JSON))
        self._listed[loop] = {**{key: view[key] for key in LISTED}, "champion": view["champion"]["version"]}
        return int(view["revision"])

    async def find_behind(self, loop: str, revision: int) -> list[str]:
        """The services of the data path that do not use this revision, or a later one, yet."""
        behind = []
        for service in DATA_PATH:
            try:
                used = (await self._ask(get_loop(loop, service)))["revision"]
            except Refused:
                used = 0  # it does not know the loop yet
            if used < revision:
                behind.append(service)
        return behind

    async def status(self, loop: str) -> Mapping[str, Any]:
        """How a loop is doing, as monitoring says. Raises Refused where it does not know the loop."""
        return await self._ask(get_status(loop))

    async def delete(self, loop: str, reason: str) -> None:
        """Delete a loop; one that is gone is no error."""
        try:
            await self._ask(delete_loop(loop, reason))
        except Refused as e:
            if e.status != HTTPStatus.NOT_FOUND:
                raise Unavailable("NotDeleted", str(e)) from e
        self._listed.pop(loop, None)

    async def _ask(self, asked: LoopRequest) -> dict[str, Any]:
        async with self._at_once:
            until, away = self._away.get(asked.service, (0.0, None))
            if away is not None and self._clock() < until:
                raise Unavailable(away.reason, str(away))
            try:
                answer = read(await self._client.request(*asked))
                self._away.pop(asked.service, None)
                return answer
            except EverloopHTTPError as e:
                raise _read_refusal(e, asked.service) from e
            except (EverloopError, ValueError) as e:
                gone = Unavailable("EverloopUnreachable", " ".join(str(e).split()))
                self._away[asked.service] = (self._clock() + self._poll_s, gone)
                raise gone from e


def _read_refusal(error: EverloopHTTPError, service: str) -> Refused | Unavailable:
    if error.status in FORBIDDEN:
        return Unavailable("NotAllowed", f"{service}: {error}; give the operator's token the role that it needs")
    if error.status in REFUSALS:
        return Refused(error.errors or [("spec", error.detail or error.title)], error.status)
    return Unavailable("EverloopUnavailable", f"{service}: {error}")
