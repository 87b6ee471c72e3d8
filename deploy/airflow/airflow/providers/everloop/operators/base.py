"""What the operators share: the connection, refusals that no retry mends, and names for what a task has asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.providers.everloop.links import EverloopConsoleLink
from airflow.sdk import BaseOperator, Context
from airflow.sdk.exceptions import AirflowFailException

from everloop import Everloop, EverloopHTTPError

NEVER = (400, 413, 415, 422)
"""Statuses of a refusal for what was sent: the same again is refused again, so Airflow does not retry."""
T = TypeVar("T")


class EverloopOperator(BaseOperator):
    """An operator about a loop, by a connection."""

    template_fields: Sequence[str] = ("loop", "everloop_conn_id")
    operator_extra_links = (EverloopConsoleLink(),)

    def __init__(self, *, loop: str, everloop_conn_id: str = EverloopHook.default_conn_name, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.loop, self.everloop_conn_id = loop, everloop_conn_id

    @contextmanager
    def client(self) -> Iterator[Everloop]:
        """A client; its refusals fail the task, at once where a retry is refused too."""
        with EverloopHook(self.everloop_conn_id).get_conn() as client:
            try:
                yield client
            except EverloopHTTPError as e:
                if e.status in NEVER:
                    fields = "; ".join(f"{field}: {wrong}" for field, wrong in e.errors)
                    raise AirflowFailException(f"{e}{' (' + fields + ')' if fields else ''}") from e
                raise

    def ask(self, what: Callable[[Everloop], T]) -> T:
        """The answer of a client."""
        with self.client() as client:
            return what(client)


def task_of(context: Context) -> str:
    """The task of this DAG run, the same for all its attempts, in words for people."""
    ti = context["ti"]
    mapped = f"[{ti.map_index}]" if (ti.map_index or -1) >= 0 else ""
    return f"Airflow {ti.dag_id}.{ti.task_id}{mapped}, {ti.run_id}"


def key_of(context: Context, attempt: int = 0) -> str:
    """A key that names what this task asks for: the same for all attempts, unless an `attempt` begins anew."""
    return hashlib.sha256(f"{task_of(context)}/{attempt}".encode()).hexdigest()
