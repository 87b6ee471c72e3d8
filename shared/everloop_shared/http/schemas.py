"""What requests and answers of several services look like, for their OpenAPI documents."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

Value = bool | int | float | str


class Observation(BaseModel):
    """What happened, or what to predict from: the fields that the loop's schema names."""

    model_config = ConfigDict(extra="forbid")

    id: str = Field("", description="names the prediction that is made of it; without one, the answer tells the id")
    entity: str = Field("", description="what the windows of its features belong to")
    time: str = Field("", description="when it happened, RFC 3339 with an offset; without one, now")
    data: dict[str, Value | None]


class Revision(BaseModel):
    """The revision of a loop's spec that the service works by."""

    loop: str
    revision: int
