"""Dead letters: one topic per service for records that cannot be processed, with the reason and the bytes."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Literal

from pydantic import create_model

from everloop_schemas.envelope import DAY_MS, ControlData, ControlEvent, Topic
from everloop_schemas.topology import SERVICES


class DeadLetterData(ControlData):
    """A record with its topic, partition and offset; `key` and `value` are the original bytes in base64.

    `reader` is the source of the loop for which ingest read the record, None for a record of Everloop's own topics, and
    `headers` are those of a source's record, each with its value in base64. A record that was refused before it came
    on its topic has the partition and the offset -1. `unexpected` says which expectations of the loop were broken, by
    field and form as `age.between`, each with the number of observations that the letter counts: its own, and others
    that were refused since the one before and have no letter. In loops with personal fields `personal` holds `value`
    sealed, and `value` is None.
    """

    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    key: str | None = None
    value: str | None = None
    reader: str | None = None
    headers: tuple[tuple[str, str], ...] | None = None
    unexpected: dict[str, int] | None = None
    personal: str | None = None


class DeadLetter(ControlEvent):
    """A record that a service could not process. `loop` is empty where the record names none."""

    type: str = ""
    source: str = ""
    data: DeadLetterData

    def key(self) -> bytes:
        """The original key, which keeps the order per key; in base64 where readers could not read it as text."""
        key = b64decode(self.data.key or "")
        try:
            key.decode()
        except UnicodeDecodeError:
            return (self.data.key or "").encode()
        return key


def _dead_letter_class(service: str) -> type[DeadLetter]:
    name = f"{service}.dead_letter.v1"
    fixed: dict[str, Any] = {"type": (Literal[name], name), "source": (str, f"everloop/{service}")}
    doc = f"A record that {service} could not process."
    cls = create_model(f"{service.title()}DeadLetter", __base__=DeadLetter, __doc__=doc, **fixed)
    cls.topic = Topic(name, owner=service, keyed_by="loop/subject", retention_ms=30 * DAY_MS)
    return cls


DEAD_LETTERS: dict[str, type[DeadLetter]] = {service: _dead_letter_class(service) for service in SERVICES}
