"""The calls that are refused, for the audit; none has a record otherwise, as predictions are records themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from everloop_schemas.access.routes import GRPC
from everloop_schemas.audit import NO_LOOP
from everloop_serving.api.open_inference_grpc.peers import address_of
from everloop_shared.access.errors import NotAuthenticated, NotPermitted
from everloop_shared.access.identity import Identity
from everloop_shared.audit.request import AuditedRequest
from everloop_shared.errors import ServiceError
from everloop_shared.tracing import new_traceparent

if TYPE_CHECKING:
    from everloop_shared.audit.trail import AuditTrail


class CallAudit:
    """Writes refused calls to the trail, where there is one."""

    def __init__(self, trail: AuditTrail | None) -> None:
        self._trail = trail

    def note(self, error: ServiceError, method: str, peer: str, identity: Identity) -> None:
        """A call of this method ended with this error."""
        if self._trail is None or not isinstance(error, NotAuthenticated | NotPermitted):
            return
        known = next((name for name in GRPC if name == method or name.endswith(f"/{method}")), "")
        trace = new_traceparent()
        self._trail.note_refusal(
            AuditedRequest(
                "serving",
                address_of(peer),
                "grpc",
                trace[3:35],
                trace,
                GRPC.get(known, ""),
                known,
                getattr(error, "loop", None) or NO_LOOP,
                identity,
                error.http_status,
                error.code,
            )
        )
