"""What HTTP queries answer about a loop, as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from everloop_registry.domain.loop import Loop
from everloop_registry.domain.rollout import rollout_plan
from everloop_registry.domain.working_state import SubstituteVersion
from everloop_schemas.registry import BASELINE, LiveVersion, PendingApproval, VersionRegistered


def current_view(loop: Loop, substitutes: Mapping[str, SubstituteVersion]) -> dict[str, Any]:
    """A loop as it is now; `champion.serving` says what instances that cannot load the champion serve."""
    view = state_view(loop)
    serving = {i: s for i, s in sorted(substitutes.items()) if s.champion == loop.champion.version}
    view["champion"]["serving"] = {i: {"version": s.version, "reason": s.reason} for i, s in serving.items()}
    return view


def state_view(loop: Loop) -> dict[str, Any]:
    """A loop at one moment: spec, live versions and rollout."""
    return {
        "loop": loop.loop,
        "team": loop.team,
        "revision": loop.revision,
        "applied": loop.applied.isoformat(),
        "champion": _to_json(loop.champion),
        "candidate": _to_json(loop.candidate),
        "previous": _previous_version(loop),
        "winner": loop.winner,
        "stage": loop.stage,
        "share": loop.share,
        "approval": _to_json(loop.approval),
        "pinned": loop.pinned,
        "run": loop.run,
        "sequence": loop.sequence,
        "decided": loop.time.isoformat(),
        "spec": json.loads(loop.spec.model_dump_json(by_alias=True, exclude_none=True)),
    }


def rollout_view(loop: Loop) -> dict[str, Any]:
    """The rollout and what is still ahead of it."""
    plan = rollout_plan(loop)
    return {
        "loop": loop.loop,
        "stage": loop.stage,
        "share": loop.share,
        "candidate": loop.candidate.version if loop.candidate else None,
        "champion": loop.champion.version,
        "approval": _to_json(loop.approval),
        "winner": loop.winner,
        "run": loop.run,
        "urgent": loop.urgent,
        "pinned": loop.pinned,
        "since_outcomes": loop.staged_at,
        "held_back": loop.held_back,
        "plan": {"shadow": plan.shadow, "shares": plan.shares, "step": plan.step},
    }


def versions_view(loop: Loop, wires: Sequence[bytes]) -> list[dict[str, Any]]:
    """The versions that these decisions registered in the loop's present lifetime, with the slot of the live ones."""
    slots, kept = loop.slots, set(loop.kept)
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


def _to_json(part: LiveVersion | PendingApproval | None) -> dict[str, Any] | None:
    return json.loads(part.model_dump_json()) if part else None


def _previous_version(loop: Loop) -> str | None:
    if loop.champion.version == BASELINE:
        return None
    return loop.previous_champion.version if loop.previous_champion else BASELINE
