"""Turns a record that cannot be used into its dead letter, with the reason and the original bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter, DeadLetterData
from everloop_schemas.envelope import derived_id
from everloop_shared.errors import EverloopError
from everloop_shared.messaging.routes import Position

REASON_LIMIT = 2000


def dead_letter(service: str, at: Position, key: bytes | None, value: bytes | None, error: BaseException) -> DeadLetter:
    """The dead letter of the record at `at`; the same record gives the same id and bytes."""
    name = f"{service}.dead_letter.v1"
    seen = _peek(value)
    return DEAD_LETTERS[service](
        id=derived_id("", name, at.topic, at.partition, at.offset),
        time=datetime.fromtimestamp(at.timestamp / 1000, UTC),
        subject=f"{at.topic}/{at.partition}/{at.offset}",
        loop=seen.get("loop", ""),
        causationid=seen.get("id"),
        data=DeadLetterData(
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            error=type(error).__name__,
            reason=(error.detail if isinstance(error, EverloopError) else str(error))[:REASON_LIMIT],
            key=None if key is None else b64encode(key).decode(),
            value=None if value is None else b64encode(value).decode(),
        ),
    )


def _peek(value: bytes | None) -> dict[str, str]:
    try:
        body = json.loads(value or b"")
    except ValueError:
        return {}
    if not isinstance(body, dict):
        return {}
    return {k: body[k] for k in ("loop", "id") if isinstance(body.get(k), str)}
