"""What the endpoints answer, for the OpenAPI document."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field


class EntityState(BaseModel):
    """The last vector of an entity, and the state of its windows."""

    loop: str
    entity: str
    revision: int
    applied: int = Field(description="observations that it was computed from")
    features: dict[str, Any]
    state: dict[str, Any]
    personal: str = Field("", description="the sealed state of a loop with personal fields, where it was asked for")
