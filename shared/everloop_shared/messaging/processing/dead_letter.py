"""BatchOrder a record that cannot be used into its dead letter, with the reason and the original bytes."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import UTC, datetime

from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter, DeadLetterData
from everloop_schemas.envelope import derived_id
from everloop_shared.errors import ServiceError
from everloop_shared.messaging.routes import Position

REASON_LIMIT = 2000
QUOTED = {"loop": 63, "id": 256}
"""How much of a record's own words its dead letter repeats: the bytes are in there as well, and all has to fit."""
LATEST_MS = 253_402_300_799_000
"""The last second that a datetime can say."""


def make_dead_letter(
    service: str, at: Position, key: bytes | None, value: bytes | None, error: BaseException
) -> DeadLetter:
    """The dead letter of the record at `at`; the same record gives the same id and bytes. Nothing in it raises."""
    name = f"{service}.dead_letter.v1"
    seen = _peek(value)
    return DEAD_LETTERS[service](
        id=derived_id("", name, at.topic, at.partition, at.offset),
        time=datetime.fromtimestamp(min(max(at.timestamp, 0), LATEST_MS) / 1000, UTC),
        subject=f"{at.topic}/{at.partition}/{at.offset}",
        loop=seen.get("loop", ""),
        causationid=seen.get("id"),
        data=DeadLetterData(
            topic=at.topic,
            partition=at.partition,
            offset=at.offset,
            error=type(error).__name__,
            reason=_text(error.detail if isinstance(error, ServiceError) else str(error))[:REASON_LIMIT],
            key=None if key is None else b64encode(key).decode(),
            value=None if value is None else b64encode(value).decode(),
        ),
    )


def _peek(value: bytes | None) -> dict[str, str]:
    try:
        body = json.loads(value or b"")
    except (ValueError, RecursionError):
        return {}
    if not isinstance(body, dict):
        return {}
    return {k: _text(body[k][:most]) for k, most in QUOTED.items() if isinstance(body.get(k), str)}


def _text(words: str) -> str:
    """Half a surrogate pair can be written in JSON, but it cannot travel."""
    return words.encode(errors="replace").decode()
