"""The JSON Schema of an event class, whichever library validates it."""

from __future__ import annotations

from inspect import cleandoc
from typing import Any, cast

import msgspec
from pydantic import BaseModel

from everloop_schemas.envelope import DataEvent, Event


def build_schema(cls: type[Event]) -> dict[str, Any]:
    """The JSON Schema of an event."""
    if issubclass(cls, DataEvent):
        return _build_struct_schema(cls)
    assert issubclass(cls, BaseModel), "an event is a data event or a control event"
    return cls.model_json_schema()


def _build_struct_schema(cls: type[DataEvent]) -> dict[str, Any]:
    """As pydantic builds it: the event itself at the top, fields with a default not required, with their defaults."""
    _, parts = msgspec.json.schema_components([cls], ref_template="#/$defs/{name}")
    structs = {kind.__name__: kind for kind in _structs_of(cls)}
    for name, part in parts.items():
        part["description"] = cleandoc(part["description"])
        for field in msgspec.structs.fields(structs[name]):
            if field.default_factory is not msgspec.NODEFAULT:
                part["properties"][field.encode_name]["default"] = cast(Any, field.default_factory)()
    event = parts.pop(cls.__name__)
    event["properties"]["type"] = {"type": "string", "const": cls.type_name(), "default": cls.type_name()}
    event["required"].remove("type")
    return {"$defs": parts, **event}


def _structs_of(cls: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The class and those of its fields, at any depth."""
    found, waiting = list[type[msgspec.Struct]](), [msgspec.inspect.type_info(cls)]
    while waiting:
        info = waiting.pop()
        if isinstance(info, msgspec.inspect.StructType):
            found.append(info.cls)
            waiting += [field.type for field in info.fields]
        elif isinstance(info, msgspec.inspect.VarTupleType):
            waiting.append(info.item_type)
        elif isinstance(info, msgspec.inspect.UnionType):
            waiting += info.types
    return found
