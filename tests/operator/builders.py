"""Resources and answers for the operator's tests."""

from __future__ import annotations

from typing import Any

from everloop_operator.resource import LoopResource

SPEC = {"task": "binary", "schema": {"visits": {"type": "number"}}}


def resource(**changed: Any) -> LoopResource:
    """A resource that nobody has looked at yet."""
    about = {"namespace": "shop", "name": "churn", "uid": "1", "generation": 1, "created": "2024-05-01T12:00:00Z"}
    return LoopResource(**{**about, "spec": SPEC, **changed})


def accepted(**changed: Any) -> dict[str, Any]:
    """The status of a resource whose first generation is revision 4."""
    conditions = [condition("Accepted", "True", "Applied")]
    return {"observedGeneration": 1, "revision": 4, "conditions": conditions} | changed


def condition(kind: str, value: str, reason: str) -> dict[str, Any]:
    """A condition as a status has it."""
    return {
        "type": kind,
        "status": value,
        "reason": reason,
        "message": "",
        "observedGeneration": 1,
        "lastTransitionTime": "2024-05-01T12:00:00Z",
    }


def listed(**changed: Any) -> dict[str, Any]:
    """The loop as the registry lists it."""
    return {"revision": 4, "champion": "0", "stage": "idle", "share": 0.0, "pinned": False} | changed
