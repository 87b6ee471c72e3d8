"""Puts the operator together: kopf watches the resources, keeps the finalizers and posts the events."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

import kopf

from everloop import AsyncEverloop
from everloop_operator.errors import Unavailable
from everloop_operator.installation import Installation
from everloop_operator.ownership import Claim
from everloop_operator.reconciler import Notice, Outcome, Reconciler
from everloop_operator.resource import GROUP, ON_DELETE, ON_DRIFT, PLURAL, VERSION, LoopResource
from everloop_operator.settings import OperatorSettings
from everloop_operator.status import merge_patch
from everloop_shared.backoff import Backoff

logger = logging.getLogger(__name__)
FINALIZER = f"{GROUP}/loop"
BETWEEN_STEPS_S = 0.01
TIMEOUT_S, RETRY_FOR_S = 10.0, 2.0
"""Of one attempt, and of all at one request; then the resource says that Everloop is away, and it is asked again."""
DELETE_BACKOFF = Backoff(first_s=2.0, longest_s=60.0)
FAULT_BACKOFF_S = 10.0
STOP_WITHIN_S = 1.0


class NothingToCompare(kopf.AnnotationsDiffBaseStorage):
    """Keeps no copy of the resource in its annotations: each step compares it with the registry."""

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Nothing."""
        return kopf.BodyEssence()


class Operator:
    """The handlers. Each resource has a timer, which waits for its next step or for a change, and takes one step."""

    def __init__(self, settings: OperatorSettings) -> None:
        self._settings = settings
        self._reconciler: Reconciler | None = None
        self._client = AsyncEverloop(timeout=TIMEOUT_S, retry_for=RETRY_FOR_S)

    def register(self) -> kopf.OperatorRegistry:
        """The handlers, for kopf."""
        registry, loops = kopf.OperatorRegistry(), (GROUP, VERSION, PLURAL)
        kopf.on.startup(registry=registry)(self.start)
        kopf.on.cleanup(registry=registry)(self.stop)
        kopf.on.login(registry=registry)(log_in)
        kopf.index(*loops, id="claims", registry=registry)(list_claim)
        kopf.on.event(*loops, registry=registry)(wake_on_change)
        kopf.timer(*loops, interval=BETWEEN_STEPS_S, backoff=FAULT_BACKOFF_S, registry=registry)(self.take_step)
        kopf.on.delete(*loops, registry=registry)(self.delete)
        return registry

    async def start(self, settings: kopf.OperatorSettings, **_: Any) -> None:
        """Set kopf up."""
        settings.scanning.disabled = True  # nothing but loops is watched, so that no other right is needed
        settings.persistence.finalizer = FINALIZER
        settings.persistence.diffbase_storage = NothingToCompare(prefix=GROUP, key="handled")
        settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=GROUP)
        settings.posting.reporting_component = "everloop-operator"
        settings.posting.event_name_prefix = "everloop-"
        settings.background.instant_exit_timeout = STOP_WITHIN_S
        settings.background.cancellation_polling = STOP_WITHIN_S
        installation = Installation(self._client, self._settings.poll_s)
        self._reconciler = Reconciler(installation, self._settings.poll_s, self._settings.quality_s)

    async def stop(self, **_: Any) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def take_step(
        self,
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        memo: kopf.Memo,
        **given: Any,
    ) -> None:
        """Wait until something is due, and reconcile."""
        await wait_for_step(memo, given["stopped"])
        if given["stopped"] or "deletionTimestamp" in body["metadata"]:
            return
        resource = read_resource(body, memo)
        step = self._started_reconciler.reconcile(resource, list(given["claims"].get(resource.name, ())))
        outcome = await finish_unless(given["stopped"], step)
        if outcome is None:
            return
        memo.status, memo.again_in_s = outcome.status, outcome.again_in_s
        patch.status.update(merge_patch(body.get("status") or {}, outcome.status))
        for notice in outcome.notices:
            post(body, notice)

    async def delete(
        self,
        *,
        body: kopf.Body,
        patch: kopf.Patch,
        memo: kopf.Memo,
        retry: int,
        **given: Any,
    ) -> None:
        """Delete the loop, then let the resource go."""
        resource, reconciler = read_resource(body, memo), self._started_reconciler
        try:
            post(body, await reconciler.delete(resource, list(given["claims"].get(resource.name, ()))))
        except Unavailable as e:
            outcome = reconciler.tell_waiting_deletion(resource, e)
            patch.status.update(merge_patch(body.get("status") or {}, outcome.status))
            for notice in outcome.notices if retry == 0 else ():
                post(body, notice)
            raise kopf.TemporaryError(str(e), delay=DELETE_BACKOFF.pause_s(retry + 1)) from e

    @property
    def _started_reconciler(self) -> Reconciler:
        assert self._reconciler is not None, "kopf calls no handler before `start`"
        return self._reconciler


def read_resource(body: kopf.Body, memo: kopf.Memo) -> LoopResource:
    """The resource, with the status that this process wrote last: the watch brings it back a moment later."""
    return LoopResource.from_body({**body, "status": memo.get("status", body.get("status") or {})})


def log_in(settings: kopf.OperatorSettings, **_: Any) -> kopf.ConnectionInfo | None:
    """The service account of the pod, else the kubeconfig of whoever runs it."""
    found = kopf.login_with_service_account(settings=settings)
    return found or kopf.login_with_kubeconfig(settings=settings)


def list_claim(body: kopf.Body, name: str, **_: Any) -> dict[str, Claim]:
    """Index the resource by the loop that it claims."""
    return {name: Claim.of(LoopResource.from_body(body))}


def wake_on_change(body: kopf.Body, memo: kopf.Memo, **_: Any) -> None:
    """Let the resource's timer take its step now, if it was changed by somebody else than the operator."""
    meta = body["metadata"]
    annotations = meta.get("annotations") or {}
    changed = (meta["generation"], annotations.get(ON_DELETE), annotations.get(ON_DRIFT))
    if memo.setdefault("changed", None) != changed:
        memo.changed = changed
        memo.setdefault("wake", asyncio.Event()).set()


async def wait_for_step(memo: kopf.Memo, stopped: kopf.DaemonStopped) -> None:
    """Return when the next step is due, the resource has changed, or the timer is to stop."""
    wake: asyncio.Event = memo.setdefault("wake", asyncio.Event())
    waiting = {asyncio.ensure_future(wake.wait()), asyncio.ensure_future(stopped.wait())}
    try:
        await asyncio.wait(waiting, timeout=memo.get("again_in_s", 0.0), return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
    wake.clear()


async def finish_unless(stopped: kopf.DaemonStopped, step: Coroutine[Any, Any, Outcome]) -> Outcome | None:
    """What the step comes to; None where the timer is to stop first, which a service that is slow must not delay."""
    taken, stopping = asyncio.ensure_future(step), asyncio.ensure_future(stopped.wait())
    try:
        await asyncio.wait({taken, stopping}, return_when=asyncio.FIRST_COMPLETED)
        return taken.result() if taken.done() else None
    finally:
        stopping.cancel()
        taken.cancel()


def post(body: kopf.Body, notice: Notice) -> None:
    """Post an event on the resource, and log it."""
    kind = "Warning" if notice.is_warning else "Normal"
    meta = body["metadata"]
    log = logger.warning if notice.is_warning else logger.info
    log("%s/%s: %s: %s", meta["namespace"], meta["name"], notice.reason, notice.message)
    kopf.event(body, type=kind, reason=notice.reason, message=notice.message)
