"""Each field of the loop spec is read by code that acts on it, or the registry refuses it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from tests.registry.spec_reads import SPEC_CLASSES, SpecField, field_type, spec_reads

from everloop_registry.domain.spec_rules import UNSUPPORTED
from everloop_schemas.loop import LoopSpec

ROOT = Path(__file__).resolve().parents[2]
CHECKS_ONLY = ("domain/rules.py", "domain/spec_file.py")
"""Modules of the registry that validate a spec and do not act on it."""
READ_BY_THE_SCHEMA = {
    SpecField("LoopSpec", "api_version"): "its one value names the format; the class refuses every other",
}


def sources() -> list[ast.Module]:
    """Every module of the project that may act on a spec."""
    modules = [
        path
        for folder in ("services", "shared", "schemas")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.as_posix().endswith(CHECKS_ONLY)
    ]
    return [ast.parse(path.read_text()) for path in modules]


@pytest.fixture(scope="module")
def reads() -> set[SpecField]:
    """The fields that some code reads."""
    return spec_reads(sources())


def unsupported() -> set[SpecField]:
    """The fields that the registry refuses."""
    parts = {tuple(path.rpartition(".")[::2]) for path in UNSUPPORTED}
    return {SpecField(str(field_type("LoopSpec", part)) if part else "LoopSpec", name) for part, name in parts}


def below(fields: set[SpecField]) -> set[SpecField]:
    """Fields, and those of the parts that they hold."""
    inner = {SpecField(p, name) for f in fields if (p := field_type(*f)) for name in SPEC_CLASSES[p].model_fields}
    return fields | below(inner) if inner else fields


def is_unsupported(field: SpecField) -> bool:
    """Whether the registry refuses a field, or the part that it is of, or every field of the part that it holds."""
    part = field_type(*field)
    fields = {SpecField(part, name) for name in SPEC_CLASSES[part].model_fields} if part else {field}
    return fields <= below(unsupported())


FIELDS = [SpecField(name, field) for name, of in SPEC_CLASSES.items() for field in of.model_fields]


@pytest.mark.parametrize("field", FIELDS, ids=lambda f: f"{f.owner}.{f.name}")
def test_a_field_of_the_spec_is_read_or_refused(field: SpecField, reads: set[SpecField]) -> None:
    assert field in reads or is_unsupported(field) or field in READ_BY_THE_SCHEMA


def test_a_field_that_is_refused_is_read_by_nobody(reads: set[SpecField]) -> None:
    assert unsupported() & reads == set()


def test_every_class_of_the_spec_is_looked_at() -> None:
    assert len(SPEC_CLASSES) == 21
    assert SPEC_CLASSES["LoopSpec"] is LoopSpec
