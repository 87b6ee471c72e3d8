"""Artifacts through the registry: what `mlflow-artifacts:` addresses, listed, read, written and deleted."""

from __future__ import annotations

import re
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from everloop_registry.api.mlflow.access import ACTIONS, LoopAccess, named_by
from everloop_registry.domain.artifact_paths import FileEntry, read_path
from everloop_registry.ports import ArtifactFiles
from everloop_shared.http.uploads import Upload, UploadFolder

PREFIX = "/api/2.0/mlflow-artifacts"
ARTIFACT = Upload("PUT", re.compile(rf"{PREFIX}/artifacts/.+"))
"""The body of a file, of any content type."""
NO_MULTIPART = "Multipart upload is not supported for the current artifact repository"
"""MLflow's client reads this sentence, whatever the status, and sends the file in one piece."""


def add_artifacts(
    routes: APIRouter, access: LoopAccess, files: ArtifactFiles, uploads: UploadFolder, max_bytes: int
) -> None:
    """Add the routes of files of at most `max_bytes`."""
    one = f"{PREFIX}/artifacts/{{path:path}}"

    async def require(method: str, route: str, path: str) -> None:
        await access.require(ACTIONS[method, route], named_by(read_path(path)))

    @routes.get(f"{PREFIX}/artifacts", include_in_schema=False)
    async def list_artifacts(path: str = "") -> JSONResponse:
        if not path.strip("/"):
            return JSONResponse({"files": []})
        await require("GET", f"{PREFIX}/artifacts", path)
        found = await files.entries(path)
        return JSONResponse({"files": [entry_view(entry) for entry in found]})

    @routes.get(one, include_in_schema=False)
    async def download_artifact(path: str) -> Response:
        await require("GET", one, path)
        file = await files.open(path)
        name = quote(path.rstrip("/").rpartition("/")[2])
        headers = {"content-length": str(file.size), "content-disposition": f"attachment; filename*=UTF-8''{name}"}
        return StreamingResponse(file.chunks, media_type="application/octet-stream", headers=headers)

    @routes.put(one, include_in_schema=False)
    async def upload_artifact(path: str, request: Request) -> JSONResponse:
        await require("PUT", one, path)
        await files.check_writable(path)
        async with uploads.receive(request, max_bytes) as received:
            await files.write(path, received.file, received.size)
        return JSONResponse({})

    @routes.delete(one, include_in_schema=False)
    async def delete_artifact(path: str) -> JSONResponse:
        await require("DELETE", one, path)
        await files.delete(path)
        return JSONResponse({})

    @routes.api_route(f"{PREFIX}/{{kind}}/{{path:path}}", methods=["GET", "POST"], include_in_schema=False)
    async def refuse_multipart(kind: str, path: str) -> JSONResponse:
        return JSONResponse({"error_code": "NOT_IMPLEMENTED", "message": NO_MULTIPART}, 404)


def entry_view(entry: FileEntry) -> dict[str, object]:
    """An entry of a folder as MLflow writes it."""
    view: dict[str, object] = {"path": entry.path, "is_dir": entry.is_dir}
    return view if entry.size is None else {**view, "file_size": entry.size}
