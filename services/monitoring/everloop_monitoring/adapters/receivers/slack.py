"""Slack: messages in Block Kit to an incoming webhook."""

from __future__ import annotations

import json
from typing import Any

import httpx

from everloop_monitoring.adapters.receivers.config import SlackSpec
from everloop_monitoring.adapters.receivers.http import open_client, post
from everloop_monitoring.adapters.receivers.message import Message, passages
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.errors import cut

MAX_HEADER, MAX_TEXT, MAX_BLOCKS = 150, 3000, 50
"""Slack's limits: characters of a header and of a text, and blocks of a message."""
SIGNS = {"info": ":information_source:", "warning": ":warning:", "critical": ":rotating_light:"}


class SlackReceiver:
    """One channel."""

    retold_every_s = None

    def __init__(self, spec: SlackSpec, client: httpx.AsyncClient | None = None) -> None:
        self._spec = spec
        self._client = client or open_client()

    async def send(self, message: Message) -> None:
        """Send a message; raises ReceiverAway, MessageRefused or Misconfigured."""
        await post(self._client, self._spec.url.read(), json.dumps(render(message)).encode(), {})

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()


def render(message: Message) -> dict[str, Any]:
    """The payload: a header, then a section for each alert, and the link. `text` is for notifications."""
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": cut(message.title, MAX_HEADER), "emoji": False}}
    ]
    blocks += [_section(alert) for alert in message.alerts]
    if message.link:
        link = {"type": "mrkdwn", "text": f"<{escape(message.link)}|open the console>"}
        blocks.append({"type": "context", "elements": [link]})
    return {"text": escape(message.title), "blocks": blocks[:MAX_BLOCKS]}


def escape(text: str) -> str:
    """Text that Slack shows as it is: it can mention nobody and link nowhere."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _section(alert: AlertRaised) -> dict[str, Any]:
    d = alert.data
    sign = ":white_check_mark:" if d.state == "resolved" else SIGNS[d.severity]
    lines = [f"{sign} *{escape(d.alert)}* ({d.severity})", escape(d.message)]
    lines += [f"*{title}:* {escape(text)}" for title, text in passages(alert)]
    return {"type": "section", "text": {"type": "mrkdwn", "text": _cut_escaped("\n".join(lines))}}


def _cut_escaped(text: str) -> str:
    """At most `MAX_TEXT` characters, without half an escape at the end."""
    if len(text) <= MAX_TEXT:
        return text
    head = text[: MAX_TEXT - 1]
    begun = head.rfind("&", len(head) - 5)
    return (head[:begun] if begun >= 0 and ";" not in head[begun:] else head) + "…"
