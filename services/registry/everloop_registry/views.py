"""What the doors answer about a loop, and the loop as it was at a moment: its decisions folded up to then."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from everloop_registry.domain.ledger import Cause, Ledger, digest
from everloop_registry.domain.loop import Loop
from everloop_registry.domain.rollout import plan
from everloop_registry.domain.work import Instead
from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import at
from everloop_schemas.registry import BASELINE, Decided, LiveVersion, VersionRegistered


def as_of(loop: str, wires: Sequence[bytes]) -> Loop | None:
    """The fold of these decisions, the loop's first ones; None without any."""
    ledger = Ledger(loop, Cause(None, None, at(0)))
    for wire in wires:
        decision = decode(Decided.topic.name, wire)
        assert isinstance(decision, Decided), "the topic holds nothing else"
        ledger.follow(decision, digest(wire))
    return ledger.loop


def served_view(loop: Loop, unserved: Mapping[str, Instead]) -> dict[str, Any]:
    """A loop as it is now, whole; `champion.serving` says what instances that cannot load the champion serve."""
    found = state_view(loop)
    told = {i: t for i, t in sorted(unserved.items()) if t.of == loop.champion.version}
    found["champion"]["serving"] = {i: {"version": t.version, "reason": t.reason} for i, t in told.items()}
    return found


def state_view(loop: Loop) -> dict[str, Any]:
    """A loop, whole."""
    return {
        "loop": loop.loop,
        "revision": loop.revision,
        "applied": loop.applied.isoformat(),
        "champion": _live(loop.champion),
        "candidate": _live(loop.candidate),
        "previous": (loop.before.version if loop.before else BASELINE) if loop.champion.version != BASELINE else None,
        "winner": loop.winner,
        "stage": loop.stage,
        "share": loop.share,
        "pinned": loop.pinned,
        "run": loop.run,
        "sequence": loop.sequence,
        "decided": loop.time.isoformat(),
        "spec": json.loads(loop.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def rollout_view(loop: Loop) -> dict[str, Any]:
    """The rollout and what is still ahead of it."""
    steps = plan(loop)
    return {
        "loop": loop.loop,
        "stage": loop.stage,
        "share": loop.share,
        "candidate": loop.candidate.version if loop.candidate else None,
        "champion": loop.champion.version,
        "winner": loop.winner,
        "run": loop.run,
        "urgent": loop.urgent,
        "pinned": loop.pinned,
        "since_outcomes": loop.staged_at,
        "plan": {"shadow": steps.shadow, "shares": steps.shares, "step": steps.step},
    }


def registered(loop: Loop, wires: Sequence[bytes]) -> list[dict[str, Any]]:
    """The versions registered by these decisions in the loop's present life, with the slot of those that are live."""
    slots = {loop.champion.version: "champion"}
    if loop.candidate is not None:
        slots[loop.candidate.version] = "candidate"
    kept = set(loop.kept)
    found = []
    for wire in wires:
        decision = VersionRegistered.model_validate_json(wire)
        if decision.revision < loop.life:
            continue
        model = decision.data.model
        found.append(
            {
                **json.loads(model.model_dump_json()),
                "registered": decision.time.isoformat(),
                "slot": slots.get(model.version),
                "kept": model.version in kept,
            }
        )
    return found


def _live(live: LiveVersion | None) -> dict[str, Any] | None:
    return json.loads(live.model_dump_json()) if live else None
