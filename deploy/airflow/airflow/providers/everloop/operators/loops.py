"""Operators about loops: apply a file, retrain, promote."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import timedelta
from typing import Any

from airflow.providers.everloop.events import RUN_FINISHED, Payload, from_time
from airflow.providers.everloop.operators.base import EverloopOperator, key_of, task_of
from airflow.providers.everloop.triggers.everloop import POLL_INTERVAL_S, EverloopWaitTrigger, read_fired
from airflow.sdk import Context, conf
from airflow.sdk.exceptions import AirflowFailException

from everloop import Everloop, EverloopHTTPError, LoopFileInvalid, LoopNameInvalid

PROMOTED = "registry.model_promoted.v1"
REASON_CHARACTERS = 500


class EverloopApplyOperator(EverloopOperator):
    """Applies a loop file: `file` is its text, or the path of a .yaml file that Airflow renders as a template.

    The result is `loop`, `revision` and `change`. A second attempt applies the same file, which changes nothing.
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "file")
    template_ext: Sequence[str] = (".yaml", ".yml")

    def __init__(self, *, file: str, loop: str = "", within: float = 60.0, **kwargs: Any) -> None:
        super().__init__(loop=loop, **kwargs)
        self.file, self.within = file, within

    def execute(self, context: Context) -> dict[str, Any]:
        """Apply it, and wait until the services use it."""
        try:
            applied = self.ask(lambda client: client.apply(self.file, within=self.within))
        except (LoopFileInvalid, LoopNameInvalid) as e:
            raise AirflowFailException(str(e)) from e
        self.loop = applied.loop  # for the link
        return asdict(applied)


class EverloopRetrainOperator(EverloopOperator):
    """Starts a fresh line of the champion's model, and waits until its run has finished, unless `wait` is off.

    The result is the run as training has it. A second attempt is about the same run, which it goes on waiting for;
    where that one has failed, it asks for another. With `deferrable` it waits in the triggerer.
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "reason")

    def __init__(
        self,
        *,
        reason: str = "",
        wait: bool = True,
        timeout: timedelta = timedelta(hours=1),
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poll_interval: float = POLL_INTERVAL_S,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.reason, self.wait, self.timeout = reason, wait, timeout
        self.deferrable, self.poll_interval = deferrable, poll_interval

    def execute(self, context: Context) -> dict[str, Any]:
        """Ask for the run, and wait."""
        run = self.ask(lambda client: self._request(client, context))
        if not self.wait:
            return run
        trigger = EverloopWaitTrigger(
            RUN_FINISHED, self.loop, self.everloop_conn_id, from_time(None), {"run": run["run"]}, self.poll_interval
        )
        if self.deferrable:
            self.defer(trigger=trigger, method_name="execute_complete", timeout=self.timeout)
        return self._finished(self.ask(lambda client: wait_for_run(client, self, run["run"])))

    def execute_complete(self, context: Context, event: Payload | None = None) -> dict[str, Any]:
        """The run that has finished."""
        return self._finished(read_fired(event)["data"])

    def _request(self, client: Everloop, context: Context) -> dict[str, Any]:
        known = {run["run"]: run for run in client.runs(self.loop)}
        reason = f"{self.reason}{' ' if self.reason else ''}({task_of(context)})"[-REASON_CHARACTERS:]
        for attempt in range(max(1, context["ti"].try_number)):
            run = client.retrain(self.loop, reason=reason, key=key_of(context, attempt))
            if run["run"] is None:
                raise RuntimeError(f"{self.loop}: {run['detail']}")
            if known.get(run["run"], run)["state"] != "failed":
                break
        return run

    def _finished(self, run: dict[str, Any]) -> dict[str, Any]:
        if run["state"] == "failed":
            raise RuntimeError(f"run {run['run']} of {self.loop} has failed: {run['failure']}")
        return run


class EverloopPromoteOperator(EverloopOperator):
    """Makes the candidate champion, or `version` where no candidate is in rollout. The result is the loop's state.

    A second attempt finds the decision of the first one by its reason, which names the task, and changes nothing. A
    version that is champion already stays it. Where nothing is to be promoted the task fails (status 409).
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "version", "reason")

    def __init__(self, *, version: str | None = None, reason: str = "", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version, self.reason = version, reason

    def execute(self, context: Context) -> dict[str, Any]:
        """Promote it, once."""
        return self.ask(lambda client: self._promote(client, task_of(context)))

    def _promote(self, client: Everloop, task: str) -> dict[str, Any]:
        reason = f"{self.reason}{' ' if self.reason else ''}({task})"[-REASON_CHARACTERS:]
        if self._is_done(client, task):
            return self._state(client)
        try:
            return client.promote(self.loop, reason=reason, version=self.version)
        except EverloopHTTPError as e:
            if e.status == 409 and self._is_done(client, task):  # the answer to an earlier request was lost
                return self._state(client)
            raise

    def _is_done(self, client: Everloop, task: str) -> bool:
        state = self._state(client)
        if self.version is not None and state["champion"]["version"] == self.version:
            return True
        promoted = (d for d in client.history(self.loop) if d["type"] == PROMOTED)
        return any(f"({task})" in decision["data"]["reason"] for decision in promoted)

    def _state(self, client: Everloop) -> dict[str, Any]:
        state: dict[str, Any] = client.request("registry", "GET", f"/v1/loops/{self.loop}").raise_for_status().json()
        return state


def wait_for_run(client: Everloop, task: EverloopRetrainOperator, run: str) -> dict[str, Any]:
    """The run once it has finished. Raises TimeoutError."""
    import time

    deadline = time.monotonic() + task.timeout.total_seconds()
    while True:
        found = next((known for known in client.runs(task.loop) if known["run"] == run), None)
        if found is not None and found["finished"]:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"run {run} of {task.loop} has not finished within {task.timeout}")
        time.sleep(task.poll_interval)
