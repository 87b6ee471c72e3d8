"""How an ONNX model is sent: the file as the body, and what comes with it as JSON in a header."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from everloop.results import Submitted
from everloop.wire import http_error, to_json

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar

ONNX = "application/onnx"
MANIFEST_HEADER = "everloop-manifest"
Model = bytes | str | PathLike[str]


def read_model(model: Model) -> bytes:
    """The bytes of an ONNX file, given as they are or by its path. Raises OSError."""
    return bytes(model) if isinstance(model, bytes | bytearray | memoryview) else Path(model).read_bytes()


def manifest_header(
    features: Sequence[str] | None,
    classes: Sequence[Scalar] | None,
    metrics: Mapping[str, float] | None,
    outputs: Mapping[str, str] | None,
    **parts: Any,
) -> dict[str, str]:
    """What comes with the file, without what is None. Raises EverloopHTTPError for what JSON cannot express."""
    given = {"features": features, "classes": classes, "metrics": metrics, **(outputs or {}), **parts}
    manifest = json.loads(to_json({name: value for name, value in given.items() if value is not None}))
    return {MANIFEST_HEADER: json.dumps(manifest)}  # ASCII, which is all that a header may hold


def data_set_name(data_set: Any) -> str | None:
    """The name of a data set, which is given as its name or as an object that has one."""
    return data_set if data_set is None or isinstance(data_set, str) else str(data_set.name)


def read_submitted(response: httpx.Response) -> Submitted:
    """The registry's answer to a submitted model. Raises EverloopHTTPError."""
    if response.status_code not in (200, 201):
        raise http_error(response)
    body = response.json()
    return Submitted(**{name: body[name] for name in ("loop", "version", "line", "run", "sha256", "size", "new")})
