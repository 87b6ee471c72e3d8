"""Sensors: a task that waits until something happens to a loop, in a worker or in the triggerer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar

from airflow.providers.everloop.events import (
    DRIFT_DETECTED,
    MODEL_PROMOTED,
    RUN_FINISHED,
    Cursor,
    Payload,
    fetch,
    from_time,
    is_meant,
    read_events,
    split_new,
)
from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.providers.everloop.links import EverloopConsoleLink
from airflow.providers.everloop.triggers.everloop import EverloopWaitTrigger, read_fired
from airflow.sdk import BaseSensorOperator, Context, PokeReturnValue, conf


class EverloopEventSensor(BaseSensorOperator):
    """Waits for an event of a loop, which is its result: `event`, `loop`, `id`, `time` and `data`.

    Counted is what happened at the time `after` (RFC 3339) or later; by default, since the DAG run started. So an
    event that happens between a task and the sensor behind it counts, and a second attempt finds what the first one
    would have found. With `deferrable` it waits in the triggerer and takes no worker meanwhile.
    """

    event: ClassVar[str]
    template_fields: Sequence[str] = ("loop", "after", "everloop_conn_id")
    operator_extra_links = (EverloopConsoleLink(),)

    def __init__(
        self,
        *,
        loop: str,
        after: str | datetime | None = None,
        everloop_conn_id: str = EverloopHook.default_conn_name,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        poke_interval: timedelta | float = 10,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.loop, self.after, self.everloop_conn_id, self.deferrable = loop, after, everloop_conn_id, deferrable

    def asked(self) -> dict[str, Any]:
        """The values that the event's data must have."""
        return {}

    def position(self, context: Context) -> Cursor:
        """From where on events count."""
        return from_time(self.after or context["dag_run"].start_date)

    def poke(self, context: Context) -> PokeReturnValue:
        """Whether it has happened."""
        with EverloopHook(self.everloop_conn_id).get_conn() as client:
            listed = read_events(self.event, self.loop, fetch(client, self.event, self.loop))
        found = [f for f in split_new(listed, self.position(context)) if is_meant(f, self.asked())]
        return PokeReturnValue(bool(found), self.checked(found[0]) if found else None)

    def execute(self, context: Context) -> Payload:
        """Wait for it."""
        if not self.deferrable:
            waited: Payload = super().execute(context)
            return waited
        if (poked := self.poke(context)).is_done:
            return poked.xcom_value
        trigger = EverloopWaitTrigger(
            self.event, self.loop, self.everloop_conn_id, self.position(context), self.asked(), self.poke_interval
        )
        self.defer(trigger=trigger, method_name="execute_complete", timeout=timedelta(seconds=self.timeout))

    def execute_complete(self, context: Context, event: Payload | None = None) -> Payload:
        """The event that the trigger has fired."""
        return self.checked(read_fired(event))

    def checked(self, found: Payload) -> Payload:
        """The event; raises where it is one that fails the task."""
        return found


class EverloopRunFinishedSensor(EverloopEventSensor):
    """Waits until a run has finished: `run` (such as that of a task), or the next one, of a `line` or of any.

    It fails where the run has failed, with the reason, unless `fail_on_failed` is off.
    """

    event = RUN_FINISHED
    template_fields: Sequence[str] = (*EverloopEventSensor.template_fields, "run", "line")

    def __init__(
        self, *, run: str | None = None, line: str | None = None, fail_on_failed: bool = True, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.run, self.line, self.fail_on_failed = run, line, fail_on_failed

    def asked(self) -> dict[str, Any]:
        """This run, or any run of this line."""
        return {"run": self.run, "line": self.line}

    def position(self, context: Context) -> Cursor:
        """A run that is named finishes once, whenever that was."""
        return from_time(None) if self.run else super().position(context)

    def checked(self, found: Payload) -> Payload:
        """The event. Raises RuntimeError where the run has failed."""
        if self.fail_on_failed and found["data"]["state"] == "failed":
            raise RuntimeError(f"run {found['id']} of {self.loop} has failed: {found['data']['failure']}")
        return found


class EverloopModelPromotedSensor(EverloopEventSensor):
    """Waits until a version becomes champion: `version`, or any."""

    event = MODEL_PROMOTED
    template_fields: Sequence[str] = (*EverloopEventSensor.template_fields, "version")

    def __init__(self, *, version: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.version = version

    def asked(self) -> dict[str, Any]:
        """This version."""
        return {"version": self.version}


class EverloopDriftDetectedSensor(EverloopEventSensor):
    """Waits until a drift of the loop is detected."""

    event = DRIFT_DETECTED
