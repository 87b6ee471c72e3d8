"""Makes what sends to a receiver, by the kind that the operator's file names."""

from __future__ import annotations

from datetime import timedelta

from everloop_monitoring.adapters.receivers.alertmanager import AlertmanagerReceiver
from everloop_monitoring.adapters.receivers.config import ReceiverSpec
from everloop_monitoring.adapters.receivers.delivery import Receiver
from everloop_monitoring.adapters.receivers.mail import EmailReceiver
from everloop_monitoring.adapters.receivers.slack import SlackReceiver
from everloop_monitoring.adapters.receivers.webhook import WebhookReceiver


def make_sender(spec: ReceiverSpec, repeat: timedelta) -> Receiver:
    """The sender of a receiver; alerts that go on are told again every `repeat`."""
    if spec.slack is not None:
        return SlackReceiver(spec.slack)
    if spec.webhook is not None:
        return WebhookReceiver(spec.webhook)
    if spec.alertmanager is not None:
        return AlertmanagerReceiver(spec.alertmanager, repeat)
    assert spec.email is not None, "a receiver has exactly one kind"
    return EmailReceiver(spec.email)
