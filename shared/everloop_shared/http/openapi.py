"""The OpenAPI document of a service: what the framework generates, with our errors and schemas in place of its own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from fastapi.routing import APIRoute
from pydantic import BaseModel, ConfigDict, Field
from pydantic.json_schema import models_json_schema

from everloop_shared.http.problems import PROBLEM

REF = "#/components/schemas/"
_FRAMEWORK_SCHEMAS = ("HTTPValidationError", "ValidationError")
_EVERY_OPERATION = {
    400: "The request is malformed, or its body is not what its encoding says.",
    401: "There is no token, or none that is valid (EVERLOOP_AUTH=on).",
    403: "No role of the caller permits this, the Host is another service's, or a foreign web page requests a change.",
    404: "There is nothing of this name.",
    405: "The address answers other methods; `Allow` names them.",
    408: "The headers or the body took too long to arrive.",
    413: "The body is too large, decoded.",
    414: "The address is too long.",
    415: "The content type or encoding is not read here.",
    429: "Too much at once; retry after `Retry-After` seconds.",
    431: "The headers are too large.",
    500: "The service failed; its log has the reason.",
    503: "Not available now; retry after `Retry-After` seconds.",
}
"""Errors of every address: the guard in front of the routes answers most of them."""
_INVALID = "The input is not valid; `errors` name the fields and the fix."
_CHANGES = {422: _INVALID}
_SCHEME = {"type": "http", "scheme": "bearer", "description": "A key, or a token of the provider; EVERLOOP_AUTH=on."}


class FieldProblem(BaseModel):
    """One error in the input: the field, as a dotted path, and what is wrong with it or how to fix it."""

    field: str
    error: str


class Problem(BaseModel):
    """Problem details (RFC 9457): why a request was not answered as asked."""

    model_config = ConfigDict(extra="allow")

    type: str = Field("about:blank", description="always about:blank; `code` tells problems apart")
    title: str
    status: int
    code: str = Field(description="the kind of problem, for programs; stays the same between versions")
    detail: str = Field(description="what is wrong, and how to fix it")
    request_id: str = Field("", description="the request, as in `X-Request-Id` and the service's log")
    errors: list[FieldProblem] = Field(default_factory=list, description="each wrong field of the input")


def describe_body(
    body: type[BaseModel], example: dict[str, Any] | None = None, *, required: bool = True
) -> dict[str, Any]:
    """The OpenAPI documentation of a body in JSON, which the route reads itself."""
    media = {"schema": schema_of(body), **({"example": example} if example else {})}
    return {"requestBody": {"required": required, "content": {"application/json": media}}}


def schema_of(*models: type[BaseModel], also_lists: bool = False) -> dict[str, Any]:
    """The schema of one of these models, or with `also_lists` a list of them; its definitions travel with it."""
    references, definitions = models_json_schema([(m, "validation") for m in models], ref_template=REF + "{model}")
    options = [references[model, "validation"] for model in models]
    schema = options[0] if len(options) == 1 else {"anyOf": options}
    if also_lists:
        schema = {"anyOf": [*options, {"type": "array", "items": schema, "minItems": 1}]}
    return {**schema, "$defs": {name: _without_defaults(d) for name, d in definitions.get("$defs", {}).items()}}


def short_operation_id(route: APIRoute) -> str:
    """The name of the function that answers: what a generated client calls its own."""
    return route.name


def errors_of(model: type[BaseModel]) -> dict[int | str, dict[str, Any]]:
    """`responses` of a router whose protocol has an error object of its own, instead of problems."""
    return {status: {"model": model, "description": text} for status, text in (_EVERY_OPERATION | _CHANGES).items()}


def complete(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a problem as the content of every error without another, and all schemas in the components."""
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for name in _FRAMEWORK_SCHEMAS:
        schemas.pop(name, None)
    schemas |= schema_of(Problem)["$defs"]
    for methods in document["paths"].values():
        for method, operation in methods.items():
            _complete_errors(operation, {**_EVERY_OPERATION, **(_CHANGES if method != "get" else {})})
    _hoist(document, schemas)
    document["components"]["schemas"] = dict(sorted(schemas.items()))
    document["components"]["securitySchemes"] = {"bearer": _SCHEME}
    document["security"] = [{"bearer": []}, {}]
    document["info"] |= {
        "version": version("everloop"),
        "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
    }
    return document


def _complete_errors(operation: dict[str, Any], common: Mapping[int, str]) -> None:
    responses: dict[str, dict[str, Any]] = operation.setdefault("responses", {})
    for status, description in common.items():
        responses.setdefault(str(status), {"description": description})
    for response in [response for status, response in responses.items() if int(status) >= 400]:
        if response.get("description") == "Validation Error":
            response["description"] = _INVALID
        schemas = response.get("content", {}).values()
        if not schemas or any(s.get("schema", {}).get("$ref") == f"{REF}HTTPValidationError" for s in schemas):
            response["content"] = {PROBLEM: {"schema": {"$ref": f"{REF}Problem"}}}
    operation["responses"] = dict(sorted(responses.items()))


def _hoist(node: Any, schemas: dict[str, Any]) -> None:
    """Move the definitions that schemas of bodies and answers carry to the components."""
    if isinstance(node, list):
        for part in node:
            _hoist(part, schemas)
    elif isinstance(node, dict):
        schemas |= node.pop("$defs", {})
        for part in list(node.values()):
            _hoist(part, schemas)


def _without_defaults(schema: Any) -> Any:
    """Without defaults that a generated client would send: an absent member says as much, and stays valid."""
    if isinstance(schema, list):
        return [_without_defaults(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    return {k: _without_defaults(v) for k, v in schema.items() if k != "default" or v not in (None, "", [], {})}
