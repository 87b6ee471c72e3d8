"""Errors: one table of kinds, and a code that programs may rely on."""

from __future__ import annotations

import importlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from everloop_shared.errors import ErrorKind, InputRejected, NotFound, ServiceError
from everloop_shared.http.problems import problem_of

MODULES = (
    "everloop.memory_bus.errors",
    "everloop_feature.errors",
    "everloop_features.errors",
    "everloop_ingest.errors",
    "everloop_models.errors",
    "everloop_archive.errors",
    "everloop_learning.errors",
    "everloop_registry.errors",
    "everloop_serving.errors",
    "everloop_shared.http.json_body",
    "everloop_shared.http.problems",
    "everloop_training.errors",
)
GRPC_CODES = {
    "ALREADY_EXISTS",
    "DEADLINE_EXCEEDED",
    "FAILED_PRECONDITION",
    "INTERNAL",
    "INVALID_ARGUMENT",
    "NOT_FOUND",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "UNAUTHENTICATED",
    "UNAVAILABLE",
}

DOCUMENT = Path(__file__).parents[2] / "shared/docs/errors.md"


def all_errors(base: type[ServiceError] = ServiceError) -> Iterator[type[ServiceError]]:
    """The error classes of the project below `base`."""
    for cls in base.__subclasses__():
        if cls.__module__.startswith("everloop"):
            yield cls
        yield from all_errors(cls)


def test_the_code_is_the_class_name_in_snake_case_unless_the_class_sets_its_own() -> None:
    class RolloutNotApproved(InputRejected):
        """An example."""

    class RenamedLater(InputRejected):
        """Another example, whose class got a better name while its code stayed."""

        code = "rollout_not_approved"

    assert ServiceError("x").code == "internal_error"
    assert NotFound("x").code == "not_found"
    assert RolloutNotApproved("x").code == RenamedLater("x").code == "rollout_not_approved"


@pytest.mark.parametrize("kind", ErrorKind)
def test_every_kind_has_a_status_for_http_and_for_grpc(kind: ErrorKind) -> None:
    assert 400 <= kind.http_status < 600
    assert kind.grpc_code in GRPC_CODES


def test_one_code_is_of_one_kind_in_all_services() -> None:
    for module in MODULES:
        importlib.import_module(module)
    kinds: dict[str, set[ErrorKind]] = defaultdict(set)
    for cls in all_errors():
        kinds[cls.code].add(cls.kind)

    assert len(kinds) > 30
    assert {code: found for code, found in kinds.items() if len(found) > 1} == {}


def test_problem_details_carry_the_code_and_the_status_of_the_kind() -> None:
    class IdInUse(InputRejected):
        """An example."""

        kind = ErrorKind.ALREADY_EXISTS
        title = "Id in use"

    answer = problem_of(IdInUse("id: order-17 is in use"))

    assert answer.status_code == 409
    assert b'"code":"id_in_use"' in answer.body


def test_the_documentation_lists_the_kinds() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")

    rows = [f"| {kind.name.lower()} | {kind.http_status} | {kind.grpc_code} |" for kind in ErrorKind]

    assert [line for line in text.splitlines() if line.startswith("| ")][1:] == rows
