"""A shop with a personal field, and what the registry asks about its customers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.feature.feature_events import SHOP, spec

from everloop_schemas.erasure import EntityErased, EntityErasedData
from everloop_schemas.loop import LoopSpec

AFTER_ALL_KEYS = datetime(2100, 1, 1, tzinfo=UTC)


def personal(**changes: Any) -> LoopSpec:
    """The shop, with a personal field."""
    return spec(schema={"price": {"type": "number", "missing": None, "personal": True}}, **changes)


def request(entity: str = "ada", decision: int = 3) -> EntityErased:
    """The registry asks for an erasure."""
    data = EntityErasedData(decision=decision, reason="by letter", models="keep", actor="dpo")
    return EntityErased(id=f"x{decision}", time=AFTER_ALL_KEYS, subject=entity, loop=SHOP, revision=1, data=data)
