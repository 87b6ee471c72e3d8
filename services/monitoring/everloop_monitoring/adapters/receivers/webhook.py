"""Any webhook: JSON by POST, signed as Standard Webhooks 1.0 says (https://www.standardwebhooks.com)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

import httpx

from everloop_monitoring.adapters.receivers.config import WebhookSpec
from everloop_monitoring.adapters.receivers.http import open_client, post
from everloop_monitoring.adapters.receivers.message import Message
from everloop_shared.clock import Clock, system_clock
from everloop_shared.errors import Misconfigured

TYPE = "everloop.alerts"
PREFIX = "whsec_"


class WebhookReceiver:
    """One address."""

    retold_every_s = None

    def __init__(self, spec: WebhookSpec, clock: Clock = system_clock, client: httpx.AsyncClient | None = None) -> None:
        self._spec, self._clock = spec, clock
        self._client = client or open_client()

    async def send(self, message: Message) -> None:
        """Send a message; raises ReceiverAway, MessageRefused or Misconfigured."""
        body = json.dumps(render(message), separators=(",", ":")).encode()
        timestamp = int(self._clock().timestamp())
        headers = {"webhook-id": message.id, "webhook-timestamp": str(timestamp)}
        if self._spec.secret is not None:
            headers["webhook-signature"] = sign(self._spec.secret.read(), message.id, timestamp, body)
        await post(self._client, self._spec.url, body, headers)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def render(message: Message) -> dict[str, Any]:
    """The payload: `type`, `timestamp` of the latest alert, and `data` with the loop, its link and the alerts."""
    alerts = [
        {"id": alert.id, "time": alert.time.isoformat(), **alert.data.model_dump(mode="json")}
        for alert in message.alerts
    ]
    data = {"loop": message.loop, "link": message.link, "alerts": alerts}
    return {"type": TYPE, "timestamp": message.alerts[-1].time.isoformat(), "data": data}


def sign(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: HMAC-SHA256 over id, time and body. `secret` is `whsec_` and base64.

    Raises Misconfigured for another secret.
    """
    try:
        key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    except binascii.Error:
        key = b""
    if not secret.startswith(PREFIX) or len(key) < 16:
        raise Misconfigured(f"a webhook's secret must be {PREFIX} and 16 bytes or more in base64")
    digest = hmac.new(key, f"{id}.{timestamp}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"
