"""Where a record goes that cannot be used: one dead-letter topic per service, with the reason and the bytes."""

from __future__ import annotations

from base64 import b64decode
from typing import Any, Literal

from pydantic import create_model

from everloop_schemas.envelope import DAY_MS, Data, Event, Topic
from everloop_schemas.topology import SERVICES


class DeadLetterData(Data):
    """A record with its whereabouts; `key` and `value` are the original bytes in base64."""

    topic: str
    partition: int
    offset: int
    error: str
    reason: str
    key: str | None = None
    value: str | None = None


class DeadLetter(Event):
    """A record that a service refused. `loop` is empty where the record does not say one."""

    type: str = ""
    source: str = ""
    data: DeadLetterData

    def key(self) -> bytes:
        """The original key, so that order per key survives."""
        return b64decode(self.data.key or "")


def _of(service: str) -> type[DeadLetter]:
    name = f"{service}.dead_letter.v1"
    fixed: dict[str, Any] = {"type": (Literal[name], name), "source": (str, f"everloop/{service}")}
    doc = f"A record that {service} refused."
    cls = create_model(f"{service.title()}DeadLetter", __base__=DeadLetter, __doc__=doc, **fixed)
    cls.topic = Topic(name, owner=service, keyed_by="loop/subject", retention_ms=30 * DAY_MS)
    return cls


DEAD_LETTERS: dict[str, type[DeadLetter]] = {service: _of(service) for service in SERVICES}
