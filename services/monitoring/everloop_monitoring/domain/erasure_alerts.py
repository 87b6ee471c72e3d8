"""The alert about an erasure whose receipt does not come."""

from __future__ import annotations

from datetime import datetime, timedelta

from everloop_monitoring.domain.alerts import AlertBook, Signal
from everloop_monitoring.domain.runbooks import runbook_of
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided

RECEIPT_WITHIN = timedelta(minutes=1)


def erasure_alert(decision: int) -> str:
    """The name of the alert about the erasure of this decision; the entity is left out of it."""
    return f"erasure.{decision}"


def signal_of_erasure(event: ErasureDecided) -> Signal:
    """Somebody is to be erased: it fires where the receipt does not come in time."""
    return Signal(
        alert=erasure_alert(event.sequence),
        kind="erasure",
        severity="critical",
        message=f"the erasure of decision {event.sequence} has no receipt of feature",
        caused_by=event.id,
        evidence=(f"decided at {event.time:%Y-%m-%d %H:%M:%S} UTC",),
        cause="feature, or the store of personal keys, does not answer, or feature is behind",
        runbook=runbook_of("erasure"),
        about={"decision": event.sequence},
        pending=True,
    )


def end_erasure(book: AlertBook, event: ErasureConfirmed) -> None:
    """The receipt came."""
    if event.data.decision is not None:
        book.end(erasure_alert(event.data.decision), "feature has confirmed it", event.id)


def fire_late_erasures(book: AlertBook, now: datetime) -> None:
    """Fire the alerts about erasures whose receipt is late."""
    for alert in list(book.open.values()):
        if alert.kind == "erasure" and alert.state == "pending" and now - alert.since >= RECEIPT_WITHIN:
            book.fire(alert.alert)
