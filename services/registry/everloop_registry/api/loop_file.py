"""A loop file in the body of a request: read, and described for the OpenAPI document."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import Request

from everloop_registry.api.schemas import LoopFile
from everloop_registry.domain.spec_file import read_spec
from everloop_registry.errors import SpecRejected
from everloop_registry.handlers import CommandHandlers
from everloop_registry.ports import LoopReader
from everloop_schemas.loop import LoopSpec
from everloop_shared.errors import FieldError
from everloop_shared.http import UnsupportedMediaType, read_body
from everloop_shared.http.openapi import schema_of

JSON_TYPES = ("application/json",)
YAML_TYPES = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
LOOP_FILE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": schema_of(LoopSpec, LoopFile)},
            "application/yaml": {
                "schema": {"type": "string"},
                "example": "loop: churn\ntask: binary\nschema:\n  visits: {type: number}\n",
            },
        },
    }
}


def is_json(content_type: str) -> bool:
    """Whether a loop file of this type is JSON; raises UnsupportedMediaType where it is neither that nor YAML."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in JSON_TYPES + YAML_TYPES:
        raise UnsupportedMediaType(f"{kind} is not supported; send application/yaml or application/json")
    return kind in JSON_TYPES


async def read_checked_file(
    request: Request, loop: str, max_bytes: int, handlers: CommandHandlers, reader: LoopReader
) -> LoopSpec:
    """The spec in the body, tried out unless it is the loop's already; raises as `read_loop_file`, and Overloaded."""
    spec = await read_loop_file(request, loop, max_bytes)
    known = await reader.loop(loop)
    if known is None or known.spec != spec:
        await handlers.check(spec)
    return spec


async def read_loop_file(request: Request, loop: str, max_bytes: int) -> LoopSpec:
    """The spec in the body, which names the loop of the address; raises SpecRejected and UnsupportedMediaType."""
    as_json = is_json(request.headers.get("content-type", ""))
    body = await read_body(request, max_bytes)
    spec = await asyncio.to_thread(read_spec, body, is_json=as_json)
    if spec.loop != loop:
        wrong = FieldError("loop", f"is {spec.loop!r} in the file and {loop!r} in the address; make them equal")
        raise SpecRejected(f"{wrong.field}: {wrong.error}", [wrong])
    return spec
