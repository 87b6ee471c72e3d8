"""Alertmanager: alerts by its API v2, which groups, routes and silences them by labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, get_args

import httpx

from everloop_monitoring.adapters.receivers.config import AlertmanagerSpec
from everloop_monitoring.adapters.receivers.http import open_client, post
from everloop_monitoring.adapters.receivers.message import Message, runbook_of
from everloop_monitoring.domain.timeline import Severity
from everloop_schemas.monitoring import AlertRaised

PATH = "/api/v2/alerts"
RETOLD_EVERY_S = 60.0
"""As often as Prometheus does: Alertmanager has its alerts in memory only."""


class AlertmanagerReceiver:
    """One Alertmanager. An alert that is not told again within twice the repeat interval ends there by itself."""

    def __init__(self, spec: AlertmanagerSpec, repeat: timedelta, client: httpx.AsyncClient | None = None) -> None:
        self._url, self._repeat = spec.url.rstrip("/") + PATH, repeat
        self._client = client or open_client()
        self.retold_every_s = RETOLD_EVERY_S

    async def send(self, message: Message) -> None:
        """Send a message; raises ReceiverAway or MessageRefused."""
        await post(self._client, self._url, json.dumps(render(message, self._repeat)).encode(), {})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def render(message: Message, repeat: timedelta) -> list[dict[str, Any]]:
    """The latest state of each alert, under the labels of its severity, and its end under those of the others."""
    latest = {alert.data.alert: alert for alert in message.alerts}
    return [one for alert in latest.values() for one in _postable(alert, message.link, repeat)]


def _postable(alert: AlertRaised, link: str | None, repeat: timedelta) -> Iterator[dict[str, Any]]:
    d = alert.data
    told = {
        "summary": f"{alert.loop or 'Everloop'}: {d.message}",
        "evidence": "; ".join(d.evidence),
        "cause": d.cause,
        "doing": d.doing,
        "runbook": runbook_of(alert),
    }
    annotations = {name: text for name, text in told.items() if text}
    started = d.since or alert.time
    for severity in get_args(Severity):
        goes_on = severity == d.severity and d.state != "resolved"
        ends = alert.time + 2 * repeat if goes_on else max(alert.time, started)
        labels = {
            "alertname": f"Everloop{''.join(part.title() for part in d.kind.split('_'))}",
            "alert": d.alert,
            "kind": d.kind,
            "loop": alert.loop,
            "severity": severity,
        }
        yield {
            "labels": {name: text for name, text in labels.items() if text},
            "annotations": annotations,
            "startsAt": started.isoformat(),
            "endsAt": ends.isoformat(),
            **({"generatorURL": link} if link else {}),
        }
