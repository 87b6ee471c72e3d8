"""What a resource's status says, made of what Everloop answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

Status = dict[str, Any]
DIGITS = 4
"""Of scores: a status that changes with every outcome would be written as often."""
MAX_ERRORS = 20
MAX_MESSAGE = 1000
SCORES = ("served", "rolling", "no_change", "majority")


def set_condition(
    status: Status, kind: str, value: str, reason: str, message: str, *, generation: int, now: datetime
) -> bool:
    """Set a condition, as the API conventions of Kubernetes have it; whether its status or its reason has changed."""
    conditions = {c["type"]: c for c in status.get("conditions", ())}
    old = conditions.get(kind, {})
    since = old["lastTransitionTime"] if old.get("status") == value else now.strftime("%Y-%m-%dT%H:%M:%SZ")
    conditions[kind] = {
        "type": kind,
        "status": value,
        "observedGeneration": generation,
        "lastTransitionTime": since,
        "reason": reason,
        "message": _shorten(message),
    }
    status["conditions"] = list(conditions.values())
    return (old.get("status"), old.get("reason")) != (value, reason)


def find_condition(status: Mapping[str, Any], kind: str) -> Mapping[str, Any]:
    """The condition of this type, empty where there is none."""
    return next((c for c in status.get("conditions") or () if c["type"] == kind), {})


def describe_errors(errors: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    """The first field errors."""
    return [{"field": _shorten(field), "error": _shorten(error)} for field, error in errors[:MAX_ERRORS]]


def describe_rollout(listed: Mapping[str, Any], old: Mapping[str, Any]) -> Status:
    """Champion, rollout and pin as the registry lists them; what else was known of them stays while it is so."""
    champion, rollout = old.get("champion", {}), old.get("rollout", {})
    same_champion = champion.get("version") == listed["champion"]
    same_stage = rollout.get("stage") == listed["stage"]
    return {
        "champion": (champion if same_champion else {}) | {"version": listed["champion"]},
        "rollout": (rollout if same_stage else {}) | {"stage": listed["stage"], "share": listed["share"]},
        "pinned": listed["pinned"],
    }


def describe_quality(answer: Mapping[str, Any]) -> Status:
    """Champion, scores and counts as monitoring's status of the loop has them."""
    metric, rollout = answer["metric"], answer["rollout"]
    scores = {name: round(metric[name], DIGITS) for name in SCORES if metric.get(name) is not None}
    waits = {"approval": _describe_approval(rollout["approval"])} if rollout.get("approval") else {}
    candidate = {"candidate": rollout["candidate"]} if rollout["candidate"] else {}
    return {
        "champion": {"version": answer["champion"]["version"], "since": answer["champion"]["since"]},
        "quality": {
            "metric": metric["name"],
            **(scores if answer["outcomes"] else {}),
            "predictions": answer["predictions"],
            "outcomes": answer["outcomes"],
        },
        "rollout": {"stage": rollout["stage"], "share": rollout["share"], **candidate, **waits},
        "drifts": answer["drifts"],
        "runs": answer["runs"],
    }


def _describe_approval(approval: Mapping[str, Any]) -> str:
    given = f"{len(approval['approved_by'])} of {approval['approvals']}"
    return f"{approval['step']}: {approval['version']} has {given} approvals, until {approval['expires']}"


def describe_substitutes(answer: Mapping[str, Any]) -> str | None:
    """Which instances of serving cannot load the champion, and what they serve; None where all can."""
    serving = answer["champion"].get("serving") or {}
    told = [f"{instance} serves {s['version']}: {s['reason']}" for instance, s in sorted(serving.items())]
    return "; ".join(told) or None


def merge_patch(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The JSON merge patch (RFC 7386) that makes `new` of `old`; empty where they are equal."""
    patch: dict[str, Any] = {key: None for key in old if key not in new}
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            if inner := merge_patch(before, value):
                patch[key] = inner
        elif value != before:
            patch[key] = value
    return patch


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_MESSAGE else f"{text[: MAX_MESSAGE - 1]}…"
