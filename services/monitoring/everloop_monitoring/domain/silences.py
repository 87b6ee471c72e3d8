"""Silences: alerts of a loop that people know of, and are not told about until a certain time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from everloop_monitoring.domain.alerts import OpenAlert
from everloop_schemas.monitoring import AlertKind

MAX_SILENCES = 100
"""The most silences that a loop has at a time."""
MAX_SILENCE = timedelta(days=30)


@dataclass(frozen=True)
class Silence:
    """Until `until`, receivers are not told of the loop's alerts of this kind and name; None is any."""

    id: str
    loop: str
    until: datetime
    reason: str
    actor: str
    kind: AlertKind | None = None
    alert: str | None = None

    def covers(self, alert: OpenAlert) -> bool:
        """Whether an alert of its loop is silenced."""
        return self.kind in (None, alert.kind) and self.alert in (None, alert.alert)


def silenced_names(alerts: Iterable[OpenAlert], silences: Iterable[Silence]) -> set[str]:
    """The names of those alerts that one of the silences of their loop covers."""
    of_loop = list(silences)
    return {alert.alert for alert in alerts if any(silence.covers(alert) for silence in of_loop)}
