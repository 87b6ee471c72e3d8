"""Outcomes of a loop with a personal feature, sealed as they are on the log, and a search for what is in clear."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Iterable
from typing import Any

from tests.training.training_harness import event, spec, state

from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_shared.personal import Vault

SCHEMA = {"a": {"type": "number"}, "b": {"type": "number", "personal": True}}
ENTITIES = 12


def personal_spec(**fields: Any) -> LoopSpec:
    return spec(schema=SCHEMA, **fields)


def personal_state(sequence: int = 0, **parts: Any) -> LoopState:
    return state(sequence, of=personal_spec(), **parts)


def income(i: int) -> float:
    """The personal value of outcome i: it is found again wherever it is written."""
    return 700_000 + random.Random(-i - 1).random() * 10_000


def entity(i: int) -> str:
    return f"person-{i % ENTITIES}"


def clear(i: int) -> OutcomeObserved:
    """Outcome i as it is in no record."""
    return event(i, features={"b": income(i), "a": random.Random(i).random()}, entity=entity(i))


def sealed(vault: Vault, start: int, stop: int) -> list[OutcomeObserved]:
    """The outcomes as they are on the log."""
    names = personal_spec().personal_features
    return [vault.seal_event_now(clear(i), names) for i in range(start, stop)]


def found_in(data: bytes, numbers: Iterable[int]) -> list[int]:
    """The outcomes whose personal value is in some bytes, as text or as a double in either order."""
    return [i for i in numbers if any(form in data for form in _forms(income(i)))]


def _forms(number: float) -> tuple[bytes, ...]:
    return json.dumps(number).encode(), struct.pack("<d", number), struct.pack(">d", number)
