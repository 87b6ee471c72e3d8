"""What every service publishes of the requests it answers: who asked for what, from where, and what was answered."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from everloop_schemas.envelope import ALL_SERVICES, FOREVER, ControlData, ControlEvent, Topic

NO_LOOP = "*"
"""The `loop` of a request that is about no loop alone."""

Phase = Literal["requested", "answered", "refused", "left_out"]
"""Before a request is handled, once it is answered, where it is refused, and in place of refusals without a record."""


class RequestRecordedData(ControlData):
    """A request by what it does (`everloop_schemas.access`), without its body, its query and its token.

    `route` is the template of its path, empty where no route is asked for; for gRPC it is the name of the method.
    `address` is the peer's, `request` the id that the answer has in X-Request-Id. `status` is that of the answer, by
    gRPC the one that HTTP has for it; absent where no answer was given. `refused` is the code of the refusal.
    `left_out` counts refusals of the same address that have no record, since the one before.
    """

    phase: Phase
    action: str = Field("", max_length=64)
    method: str = Field("", max_length=16)
    route: str = Field("", max_length=200)
    address: str = Field("", max_length=64)
    request: str = Field("", max_length=128)
    status: int | None = None
    refused: str | None = Field(None, max_length=64)
    left_out: int = Field(0, ge=0)


class RequestRecorded(ControlEvent):
    """A request to the service of `source`; the records of one request have the same `subject`.

    `actor`, `actor_kind` and `actor_source` say who asked, as in decisions. The topic is written by all services, and
    read by none.
    """

    topic: ClassVar[Topic] = Topic(
        "audit.request_recorded.v1", owner=ALL_SERVICES, keyed_by="loop", retention_ms=FOREVER
    )
    type: Literal["audit.request_recorded.v1"] = "audit.request_recorded.v1"
    actor: str = "anonymous"
    actor_kind: str | None = None
    actor_source: str | None = None
    data: RequestRecordedData
