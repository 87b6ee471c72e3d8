"""Whether a JSON Schema is compatible with an older one: no field removed, none newly required, none narrower."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]
ANYTHING = ("array", "boolean", "integer", "null", "number", "object", "string")
AT_LEAST = ("minLength", "minimum", "exclusiveMinimum", "minItems", "minProperties")
AT_MOST = ("maxLength", "maximum", "exclusiveMaximum", "maxItems", "maxProperties")


def find_incompatibilities(old: Schema, new: Schema) -> list[str]:
    """What `old` allowed or guaranteed and `new` does not, one sentence each; empty for compatible schemas.

    A reader of `new` must understand what was written by `old`, and a reader of `old` must find its fields in
    what is written by `new`. New optional fields and wider types are fine.
    """
    return list(dict.fromkeys(_Comparison(old, new).compare(old, new, "", ())))


class _Comparison:
    """Compares two documents, following the references inside each."""

    def __init__(self, old: Schema, new: Schema) -> None:
        self._old, self._new = old, new

    def compare(self, old: Schema, new: Schema, path: str, open_refs: tuple[str, ...]) -> Iterator[str]:
        """The problems at and below one path; `open_refs` ends recursion."""
        reference = str(old.get("$ref", ""))
        if reference and reference in open_refs:
            return
        inside = (*open_refs, reference) if reference else open_refs
        choices = list(_choices(_resolve(new, self._new), self._new))
        for choice in _choices(_resolve(old, self._old), self._old):
            problems = [list(self._compare_alternatives(choice, other, path, inside)) for other in choices]
            if problems and all(problems):
                yield from min(problems, key=lambda found: (_type_differs(found), len(found)))

    def _compare_alternatives(self, old: Schema, new: Schema, path: str, open_refs: tuple[str, ...]) -> Iterator[str]:
        where = path or "the event"
        narrower = _types(old) - _types(new) - ({"integer"} if "number" in _types(new) else set())
        if narrower:
            yield f"{where}: narrowed, it can no longer be {' or '.join(sorted(narrower))}"
            return
        yield from _compare_values(old, new, where)
        yield from _compare_bounds(old, new, where)
        yield from self._compare_fields(old, new, path, open_refs)
        for part in ("items", "additionalProperties"):
            before, after = old.get(part, True), new.get(part, True)
            if isinstance(after, dict):
                yield from self.compare(before if isinstance(before, dict) else {}, after, f"{path}[]", open_refs)
            elif after is False and before is not False:
                yield f"{where}: narrowed, it no longer takes other {part}"

    def _compare_fields(self, old: Schema, new: Schema, path: str, open_refs: tuple[str, ...]) -> Iterator[str]:
        before, after = old.get("properties", {}), new.get("properties", {})
        for name in before:
            here = f"{path}.{name}" if path else name
            if name not in after:
                yield f"{here}: field removed"
            else:
                yield from self.compare(before[name], after[name], here, open_refs)
        for name in sorted(set(new.get("required", ())) - set(old.get("required", ()))):
            yield f"{f'{path}.{name}' if path else name}: newly required"


def _resolve(schema: Schema, document: Schema) -> Schema:
    while reference := schema.get("$ref"):
        found: Any = document
        for step in str(reference).removeprefix("#/").split("/"):
            found = found[step]
        schema = found
    return schema


def _choices(schema: Schema, document: Schema) -> Iterator[Schema]:
    """The alternatives a schema allows, one by one."""
    alternatives = schema.get("anyOf") or schema.get("oneOf")
    if not alternatives:
        yield schema
        return
    for alternative in alternatives:
        yield from _choices(_resolve(alternative, document), document)


def _types(schema: Schema) -> set[str]:
    if "type" in schema:
        named = schema["type"]
        return set(named) if isinstance(named, list) else {named}
    return {"string"} if "const" in schema or "enum" in schema else set(ANYTHING)


def _compare_values(old: Schema, new: Schema, where: str) -> Iterator[str]:
    def allowed_values(schema: Schema) -> list[Any] | None:
        return [schema["const"]] if "const" in schema else schema.get("enum")

    before, after = allowed_values(old), allowed_values(new)
    if after is not None:
        lost = [value for value in before if value not in after] if before is not None else ["anything else"]
        if lost:
            yield f"{where}: narrowed, it can no longer be {', '.join(map(str, lost))}"


def _compare_bounds(old: Schema, new: Schema, where: str) -> Iterator[str]:
    for bound in AT_LEAST:
        if bound in new and (bound not in old or new[bound] > old[bound]):
            yield f"{where}: narrowed, {bound} is {new[bound]} now"
    for bound in AT_MOST:
        if bound in new and (bound not in old or new[bound] < old[bound]):
            yield f"{where}: narrowed, {bound} is {new[bound]} now"
    if "pattern" in new and new["pattern"] != old.get("pattern"):
        yield f"{where}: narrowed, it must match {new['pattern']} now"


def _type_differs(found: list[str]) -> bool:
    return any("can no longer be" in problem for problem in found)
