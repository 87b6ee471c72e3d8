"""What one message to a receiver says: the alerts of one loop, and how they read as text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import quote

from everloop_schemas.envelope import derived_id
from everloop_schemas.monitoring import AlertRaised

MAX_ALERTS = 20
"""The most alerts of one message."""


class Passage(NamedTuple):
    """A line about an alert: what it is about, and what it says. The text may be anybody's: escape it."""

    title: str
    text: str


@dataclass(frozen=True)
class Message:
    """Alerts of one loop that are told together; `link` leads to the console."""

    loop: str
    alerts: Sequence[AlertRaised]
    link: str | None

    @property
    def id(self) -> str:
        """The same for the same alerts, so that a receiver recognises a message that it gets again."""
        return derived_id(self.loop, "message", *(alert.id for alert in self.alerts))

    @property
    def title(self) -> str:
        """One line."""
        firing = [alert for alert in self.alerts if alert.data.state != "resolved"]
        loop = self.loop or "Everloop"
        if len(self.alerts) == 1:
            data = self.alerts[0].data
            return f"{loop}: {data.alert} {'is over' if not firing else data.severity}"
        over = len(self.alerts) - len(firing)
        parts = [f"{len(firing)} alerts"] * bool(firing) + [f"{over} over"] * bool(over)
        return f"{loop}: {', '.join(parts)}"


def passages(alert: AlertRaised) -> list[Passage]:
    """What a message says of an alert, most important first."""
    d = alert.data
    since = d.since.strftime("%Y-%m-%d %H:%M:%S UTC") if d.since else None
    found = [
        ("since", since),
        ("evidence", "; ".join(d.evidence)),
        ("likely cause", d.cause),
        ("what Everloop does", d.doing),
        ("what you can do", runbook_of(alert)),
    ]
    if d.state == "resolved":
        found = found[:1]
    return [Passage(title, text) for title, text in found if text]


def runbook_of(alert: AlertRaised) -> str | None:
    """What a person does, with the commands as they are for this loop."""
    return alert.data.runbook and alert.data.runbook.replace("LOOP", alert.loop)


def console_link(url: str, loop: str) -> str | None:
    """The address of a loop on the console, None where the operator has named none."""
    return f"{url.rstrip('/')}/#{quote(loop, safe='')}" if url else None
