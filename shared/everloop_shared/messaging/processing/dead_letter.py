"""Makes the dead letter of a record that cannot be processed, with the reason and the original bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter, DeadLetterData
from everloop_schemas.envelope import derived_id
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.routes import Position

MAX_REASON_CHARS = 2000
MAX_COPIED_CHARS = {"loop": 63, "id": 256}
"""How much of these fields of a record its dead letter repeats; it holds the record's bytes as well, and has to fit."""
MAX_TIMESTAMP_MS = 253_402_300_799_000
"""The last second that a datetime can represent."""


def make_dead_letter(
    service: str, at: Position, key: bytes | None, value: bytes | None, error: BaseException
) -> DeadLetter:
    """The dead letter of the record at `at`. The same record gives the same id and bytes. Never raises."""
    name = f"{service}.dead_letter.v1"
    copied = _copied_fields(value)
    return DEAD_LETTERS[service](
        id=derived_id("", name, at.topic, at.partition, at.offset),
        time=datetime.fromtimestamp(min(max(at.timestamp, 0), MAX_TIMESTAMP_MS) / 1000, UTC),
        subject=f"{at.topic}/{at.partition}/{at.offset}",
        loop=copied.get("loop", ""),
        causationid=copied.get("id"),
        data=DeadLetterData(
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            error=type(error).__name__,
            reason=_text(error.detail if isinstance(error, ServiceError) else str(error))[:MAX_REASON_CHARS],
            key=None if key is None else b64encode(key).decode(),
            value=None if value is None else b64encode(value).decode(),
        ),
    )


def _copied_fields(value: bytes | None) -> dict[str, str]:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    return {k: _text(body[k][:limit]) for k, limit in MAX_COPIED_CHARS.items() if isinstance(body.get(k), str)}


def _text(text: str) -> str:
    """The text without halves of surrogate pairs, which JSON can contain but UTF-8 cannot."""
    return text.encode(errors="replace").decode()
