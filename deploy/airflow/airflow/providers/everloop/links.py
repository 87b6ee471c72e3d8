"""Links from tasks to the console."""

from __future__ import annotations

from typing import Any

from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.sdk import BaseOperator, BaseOperatorLink


class EverloopConsoleLink(BaseOperatorLink):
    """The loop in Everloop's console, which is a page of monitoring; the extra `console_url` names another address."""

    @property
    def name(self) -> str:
        """The button's text."""
        return "Everloop console"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address, without any secret; empty where the connection names none."""
        loop, conn_id = getattr(operator, "loop", ""), getattr(operator, "everloop_conn_id", "")
        try:
            return EverloopHook(conn_id).get_console_url(loop)
        except ValueError:
            return ""
