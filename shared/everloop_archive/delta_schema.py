"""Schemas as Delta Lake writes them in its log, from and to Arrow (Delta protocol, "Schema Serialization Format")."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

_NAMES = {
    pa.bool_(): "boolean",
    pa.int32(): "integer",
    pa.int64(): "long",
    pa.float64(): "double",
    pa.string(): "string",
    pa.date32(): "date",
    pa.timestamp("us", tz="UTC"): "timestamp",
}
_TYPES = {name: kind for kind, name in _NAMES.items()}


def schema_text(schema: Any) -> str:
    """An Arrow schema as the `schemaString` of a table; every column may be null."""
    return json.dumps(_struct(schema), separators=(",", ":"))


def schema_of(text: str) -> Any:
    """The Arrow schema in a `schemaString`; raises KeyError for a type that the archive has not."""
    return pa.schema(_fields(json.loads(text)))


def _struct(fields: Any) -> dict[str, Any]:
    return {"type": "struct", "fields": [_field(field) for field in fields]}


def _field(field: Any) -> dict[str, Any]:
    metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
    return {"name": field.name, "type": _name(field.type), "nullable": True, "metadata": metadata}


def _name(kind: Any) -> Any:
    if pa.types.is_struct(kind):
        return _struct(kind)
    if pa.types.is_map(kind):
        key, value = _name(kind.key_type), _name(kind.item_type)
        return {"type": "map", "keyType": key, "valueType": value, "valueContainsNull": True}
    if pa.types.is_list(kind):
        return {"type": "array", "elementType": _name(kind.value_type), "containsNull": True}
    return _NAMES[kind]


def _fields(struct: dict[str, Any]) -> list[Any]:
    return [pa.field(f["name"], _type(f["type"]), metadata=f["metadata"] or None) for f in struct["fields"]]


def _type(name: Any) -> Any:
    if isinstance(name, str):
        return _TYPES[name]
    match name["type"]:
        case "struct":
            return pa.struct(_fields(name))
        case "map":
            return pa.map_(_type(name["keyType"]), _type(name["valueType"]))
        case "array":
            return pa.list_(_type(name["elementType"]))
    raise KeyError(name["type"])
