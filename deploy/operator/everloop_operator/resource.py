"""A resource of kind Loop: what it says, and the loop file that follows from it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

GROUP, VERSION, KIND, PLURAL = "everloop.io", "v1", "Loop", "loops"
RESOURCE_NAME = "^[a-z0-9][a-z0-9-]{0,62}$"
"""The names of loops that Kubernetes can write: those without `_`."""
NAME_RULE = "must be lower-case letters, digits and -, beginning with a letter or digit, 63 at most"
ON_DELETE, ON_DRIFT = f"{GROUP}/on-delete", f"{GROUP}/on-drift"
"""Annotations. `keep` on the first leaves the loop where it is; `report` on the second only tells of a drift."""
SAID_BY_THE_RESOURCE = {
    "loop": "the loop's name is metadata.name",
    "apiVersion": "the resource has an apiVersion of its own",
}


@dataclass(frozen=True)
class LoopResource:
    """One resource, as the API server has it."""

    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=dict)
    is_being_deleted: bool = False

    @classmethod
    def from_body(cls, body: Mapping[str, Any]) -> Self:
        """Read it from its JSON."""
        meta = body["metadata"]
        return cls(
            namespace=meta["namespace"],
            name=meta["name"],
            uid=meta["uid"],
            generation=meta["generation"],
            created=meta["creationTimestamp"],
            spec=body.get("spec") or {},
            annotations=meta.get("annotations") or {},
            status=body.get("status") or {},
            is_being_deleted="deletionTimestamp" in meta,
        )

    @property
    def place(self) -> str:
        """`namespace/name`."""
        return f"{self.namespace}/{self.name}"

    @property
    def keeps_its_loop(self) -> bool:
        """Whether the loop stays when the resource is deleted."""
        return self.annotations.get(ON_DELETE) == "keep"

    @property
    def restores(self) -> bool:
        """Whether the spec is applied again when somebody has applied another one elsewhere."""
        return self.annotations.get(ON_DRIFT) != "report"

    def misplaced_keys(self) -> list[tuple[str, str]]:
        """What the spec says although the resource does: (field, error) pairs."""
        return [(key, f"leave it out: {why}") for key, why in SAID_BY_THE_RESOURCE.items() if key in self.spec]

    def loop_file(self) -> bytes:
        """The loop file as JSON."""
        return json.dumps({"loop": self.name, **self.spec}, ensure_ascii=False).encode()
