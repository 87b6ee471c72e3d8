"""The registry's way in for models that were trained elsewhere: an ONNX file, with its manifest in a header."""

from __future__ import annotations

import re
from typing import IO, Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field, field_validator

from everloop_models.manifest import (
    MANIFEST_HEADER,
    ONNX_TYPES,
    ModelManifest,
    manifest_openapi,
    read_manifest,
    rejected,
)
from everloop_registry.api.schemas import SubmittedVersionView
from everloop_registry.domain.submission import SubmittedModel, SubmittedVersion
from everloop_registry.handlers import SubmissionHandlers
from everloop_schemas.loop_parts import TRAINER
from everloop_schemas.training import DataSet
from everloop_shared.commands import CommandEdge
from everloop_shared.http.openapi import schema_of
from everloop_shared.http.uploads import Upload, UploadFolder

UPLOAD = Upload("POST", re.compile("/v1/loops/[^/]+/versions"), frozenset(kind.encode() for kind in ONNX_TYPES))


class SubmissionManifest(ModelManifest):
    """What its owner says of a model."""

    name: str = Field(pattern=TRAINER, description="the line of the model is named after it")
    data_set: DataSet | None = Field(None, description="what it was trained on: loop@start..end#revision, or its parts")

    @field_validator("data_set", mode="before", json_schema_input_type=str | DataSet | None)
    @classmethod
    def _parse_name(cls, value: Any) -> Any:
        return DataSet.parse(value) if isinstance(value, str) else value


_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The same model was submitted under the same name before: that version."},
    201: {"model": SubmittedVersionView, "description": "A new version, which challenges."},
    409: {"description": "Others submit models of the same name at the same time."},
    413: {"description": "The file is over `EVERLOOP_REGISTRY_MAX_ARTIFACT_BYTES`."},
    415: {"description": "The content type is not that of an ONNX file."},
    422: {"description": "The model cannot be served on this loop, or the manifest is not valid: why, and the fix."},
    429: {"description": "Too many models were submitted within an hour, or are waiting now."},
}


def add_submissions(
    routes: APIRouter, handlers: SubmissionHandlers, commands: CommandEdge, uploads: UploadFolder, max_bytes: int
) -> None:
    """Add the route for a model."""

    @routes.post(
        "/{loop}/versions",
        response_model=SubmittedVersionView,
        responses=_RESPONSES,
        openapi_extra=manifest_openapi(schema_of(SubmissionManifest), {"name": "forest"}),
    )
    async def submit_model(loop: str, request: Request) -> JSONResponse:
        """Submit an ONNX file: it is tried, becomes a version, and challenges the champion on the outcomes to come."""
        command = await commands.accept(request.headers)
        await handlers.require_loop(loop)
        manifest = read_manifest(SubmissionManifest, request.headers.get(MANIFEST_HEADER))
        async with uploads.receive(request, max_bytes) as received:
            if not received.size:
                raise rejected("body", "is empty; send the ONNX file as it is (curl --data-binary @model.onnx)")
            version = await handlers.submit_model(command, loop, _submitted(manifest, received.file))
        return JSONResponse(_view(loop, version), 201 if version.is_new else 200)


def _submitted(manifest: SubmissionManifest, file: IO[bytes]) -> SubmittedModel:
    return SubmittedModel(manifest.name, file, manifest.given, manifest.metrics, manifest.data_set)


def _view(loop: str, version: SubmittedVersion) -> dict[str, Any]:
    model = version.model
    whole = model.model_dump(mode="json", include={"version", "line", "offset", "run", "sha256", "size", "signature"})
    manifest = model.manifest.model_dump(mode="json", include={"inputs", "outputs", "opset", "metrics", "data_set"})
    return {"loop": loop, **whole, **manifest, "format": model.manifest.format, "new": version.is_new}
