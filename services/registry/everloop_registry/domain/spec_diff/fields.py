"""The fields of a spec that change, by path, with the value before and after."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from everloop_schemas.loop import LoopSpec

NAMED_BY = ("name", "alert", "slice")
"""What tells the members of a list apart, so that one that is put in between changes no other's path."""


class FieldChange(BaseModel):
    """A value of the spec by dotted path, None where it is not set; members of a list go by name, else by number."""

    model_config = ConfigDict(frozen=True)

    path: str
    before: Any
    after: Any


def compare_fields(before: LoopSpec, after: LoopSpec) -> list[FieldChange]:
    """Each value that differs, in the order of the new spec, defaults included; what is gone comes last of its part."""
    return list(_differences("", _plain(before), _plain(after)))


def _plain(spec: LoopSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", by_alias=True, exclude_none=True)


def _differences(path: str, before: Any, after: Any) -> Iterator[FieldChange]:
    if before == after and type(before) is type(after):
        return
    old, new = _members(before), _members(after)
    if old is None or new is None:
        yield FieldChange(path=path, before=before, after=after)
        return
    for name in [*new, *(name for name in old if name not in new)]:
        yield from _differences(f"{path}.{name}" if path else name, old.get(name), new.get(name))


def _members(value: Any) -> Mapping[str, Any] | None:
    """The parts of a value that are compared one by one; None where it is compared as a whole."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        return None
    return dict(_named(value))


def _named(members: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    seen = set[str]()
    for number, member in enumerate(members):
        name = next((str(member[key]) for key in NAMED_BY if key in member), str(number))
        name = name if name not in seen else str(number)
        seen.add(name)
        yield name, member
