"""One request as the audit records it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from everloop_schemas.audit import NO_LOOP, Phase, RequestRecorded, RequestRecordedData
from everloop_schemas.names import is_loop_name
from everloop_shared.access.identity import EVERYBODY, Identity
from everloop_shared.clock import system_clock
from everloop_shared.errors import cut
from everloop_shared.random_ids import random_id

TRACEPARENT_LENGTH = 55
"""Of version 00; what later versions append is not kept."""
LIMITS = {"action": 64, "method": 16, "route": 200, "address": 64, "request": 128, "refused": 64}
"""Characters of each text, at most."""


@dataclass
class AuditedRequest:
    """A request to `service`: who asks for what, from where, and, once that is known, how it was answered.

    `route` and `action` are empty where there is none, `address` is the peer's: what a proxy says is not believed.
    """

    service: str
    address: str
    method: str
    request: str = ""
    traceparent: str | None = None
    action: str = ""
    route: str = ""
    loop: str = NO_LOOP
    identity: Identity = EVERYBODY
    status: int | None = None
    refused: str | None = None
    is_recorded: bool = False
    id: str = field(default_factory=random_id)

    def event(self, phase: Phase, left_out: int = 0) -> RequestRecorded:
        """The record of this request, now."""
        known, said = self.identity.kind != "anonymous", dict[str, Any]()
        if phase in ("answered", "refused"):
            said = {"status": self.status, "refused": self.refused}
        texts: Mapping[str, str | None] = {name: said.get(name, getattr(self, name)) for name in LIMITS}
        shortened = {name: None if text is None else cut(text, LIMITS[name]) for name, text in texts.items()}
        data = {**said, **shortened, "phase": phase, "left_out": left_out}
        return RequestRecorded(
            id=random_id(),
            source=f"everloop/{self.service}",
            time=system_clock(),
            subject=self.id,
            loop=self.loop if is_loop_name(self.loop) else NO_LOOP,
            traceparent=self.traceparent and self.traceparent[:TRACEPARENT_LENGTH],
            actor=cut(self.identity.subject, 200),
            actor_kind=self.identity.kind if known else None,
            actor_source=cut(self.identity.source, 200) if known else None,
            data=RequestRecordedData.model_validate(data),
        )
