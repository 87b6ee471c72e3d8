"""The sync client's methods about loops: what is known of them, and the commands about them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
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


class LoopMethods(BaseClient):
    """What the client knows about loops; answers are the JSON of the service that knows it, as its `/docs` has it."""

    def request(
        self,
        service: str,
        method: str,
        path: str,
        content: bytes | Iterable[bytes] | None = None,
        content_type: str = wire.JSON,
        headers: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        """Send a request to any service; the client says how."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connections."""
        raise NotImplementedError

    def apply(self, file: LoopFile, *, within: float = APPLIED_WITHIN_S) -> Applied:
        """Apply a loop file: its text, its path as `pathlib.Path`, or what is in it as a mapping.

        Returns once ingest, feature and serving use it. The same file again changes nothing. Raises LoopFileInvalid
        for what is no loop file, EverloopHTTPError where the registry refuses it (`errors` are fields and fixes), and
        LoopNotUsedYet where a service does not use it `within` so many seconds.

        >>> with Everloop() as everloop:
        ...     everloop.apply("loop: market\\ntask: binary\\nschema: {price: {type: number}}").change
        'unchanged'
        """
        loop, content = read_loop_file(file)
        before = asks.find_revision(self.request(*asks.get_loop(loop)))
        revision = int(asks.read(self.request(*asks.put_loop(loop, content, YAML)))["revision"])
        self._wait_until_used(loop, revision, within)
        return Applied(loop, revision, change_of(before, revision))

    def delete(self, loop: str, *, reason: str = asks.DECIDED) -> dict[str, Any]:
        """Delete a loop: its models, windows and learners go, its log stays. Deleting it again changes nothing."""
        return self._ask(asks.delete_loop(loop, reason))

    def status(self, loop: str) -> dict[str, Any]:
        """How a loop is doing: counts, `champion`, `rollout`, and scores by its `metric`."""
        return self._ask(asks.get_status(loop))

    def runs(self, loop: str) -> list[dict[str, Any]]:
        """The runs of training, oldest first: `run`, `line`, `trigger`, `state` (running, trained, failed, ...)."""
        return self._list(asks.get_runs(loop), "runs")

    def versions(self, loop: str, *, as_of: asks.Moment = None) -> list[dict[str, Any]]:
        """Every registered version, oldest first, as they were at a time; `slot` says which ones are live."""
        return self._list(asks.get_versions(loop, as_of), "versions")

    def history(self, loop: str, *, as_of: asks.Moment = None) -> list[dict[str, Any]]:
        """Every decision about a loop, oldest first, numbered by `sequence`; with `as_of`, those made until then."""
        return self._list(asks.get_history(loop, as_of), "decisions")

    def alerts(self, loop: str, *, all: bool = False) -> list[dict[str, Any]]:
        """The open alerts; with `all`, what happened to alerts lately, also to those that are over."""
        return self._list(asks.get_alerts(loop, all))

    def drifts(self, loop: str, *, limit: int | None = None, early: bool = False) -> list[dict[str, Any]]:
        """The latest drifts, oldest first, each with its `id`, `time`, `what` and `why`; `limit` is 200 by default.

        With `early` also those of features, predictions and labels, which show before labels.
        """
        return self._list(asks.get_drifts(loop, limit, early))

    def retrain(self, loop: str, *, reason: str = asks.REQUESTED, key: str | None = None) -> dict[str, Any]:
        """Start a fresh line of the champion's model: its `run`, None where there is no outcome to learn yet.

        The same `key` again is the same run.
        """
        return self._ask(asks.request_run(loop, reason, key))

    def approve(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """Approve of the candidate that waits for approvals; answers the loop's state after it."""
        return self._ask(asks.command(loop, "approve", reason=reason, version=version))

    def reject(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """Roll the candidate back; the champion stays."""
        return self._ask(asks.command(loop, "reject", reason=reason, version=version))

    def promote(self, loop: str, *, reason: str = asks.DECIDED, version: str | None = None) -> dict[str, Any]:
        """Make the candidate champion now, or a registered version where no candidate is in rollout.

        Where that makes no sense in the state that the loop is in, EverloopHTTPError has the status 409.
        """
        return self._ask(asks.command(loop, "promote", reason=reason, version=version))

    def rollback(self, loop: str, *, reason: str = asks.DECIDED, to: str | None = None) -> dict[str, Any]:
        """Roll back to the previous champion, or `to` a version, and pin it until `resume`."""
        return self._ask(asks.command(loop, "rollback", reason=reason, to=to))

    def resume(self, loop: str, *, reason: str = asks.DECIDED) -> dict[str, Any]:
        """Let gate and rollout act again after a rollback."""
        return self._ask(asks.command(loop, "resume", reason=reason))

    def _ask(self, asked: asks.LoopRequest) -> dict[str, Any]:
        return asks.read(self.request(*asked))

    def _list(self, asked: asks.LoopRequest, part: str | None = None) -> list[dict[str, Any]]:
        return asks.read_rows(self.request(*asked), part)

    def _wait_until_used(self, loop: str, revision: int, within: float) -> None:
        deadline, waiting = time.monotonic() + within, list(DATA_PATH)
        impatient = self._impatient()
        try:
            while waiting := [service for service in waiting if not impatient._uses(service, loop, revision)]:
                if time.monotonic() > deadline:
                    raise LoopNotUsedYet(loop, revision, waiting, within)
                time.sleep(POLL_EVERY_S)
        finally:
            impatient.close()

    def _uses(self, service: str, loop: str, revision: int) -> bool:
        try:
            found = asks.find_revision(self.request(*asks.get_loop(loop, service)))
        except EverloopError as e:
            if asks.may_pass(e):
                return False
            raise
        return found is not None and found >= revision
