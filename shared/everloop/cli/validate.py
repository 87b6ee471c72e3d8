"""Checks loop files without a registry: form, rules and features, by the registry's own rules."""

from __future__ import annotations

from typing import Any

from everloop.errors import EverloopError
from everloop.loop_files import LoopFile, read_loop_file
from everloop_registry.domain.applied_spec import as_published
from everloop_registry.domain.feature_rules import compile_within_budget
from everloop_registry.domain.spec_file import read_spec
from everloop_registry.errors import SpecRejected


def validate_file(name: str, file: LoopFile) -> dict[str, Any]:
    """`{"file", "loop", "errors"}`: `loop` may be None, `errors` have field and error, as `apply` says it."""
    found: dict[str, Any] = {"file": name, "loop": None, "errors": []}
    try:
        found["loop"], content = read_loop_file(file)
    except EverloopError as e:
        return {**found, "errors": [{"field": "body", "error": str(e)}]}
    try:
        spec = as_published(read_spec(content, is_json=False))
        _, wrong = compile_within_budget(spec)
    except SpecRejected as e:
        wrong = list(e.errors)
    return {**found, "errors": [{"field": each.field, "error": each.error} for each in wrong]}
