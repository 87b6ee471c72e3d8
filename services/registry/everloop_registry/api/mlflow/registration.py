"""The way in by MLflow's client: what was logged becomes a model version, which challenges."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from pydantic import Field

from everloop_registry.api.mlflow.access import ACTIONS, LoopAccess, Named, named_by
from everloop_registry.api.mlflow.models import ByModel
from everloop_registry.api.mlflow.requests import Description, TextPair, read_request
from everloop_registry.api.mlflow.versions import find_version
from everloop_registry.api.mlflow.views import version_view
from everloop_registry.domain.artifact_paths import read_uri
from everloop_registry.domain.mlflow_source import LoggedModelSource, RunSource, read_source
from everloop_registry.errors import VersionNotFound
from everloop_registry.handlers.notes import NoteHandlers, check_own_tag
from everloop_registry.handlers.registrations import RegistrationHandlers
from everloop_registry.ports import ModelReader
from everloop_shared.commands import CommandEdge


class CreateVersion(ByModel, Description):
    """A version of a registered model, from what was logged."""

    source: str = Field(min_length=1, max_length=2_000)
    run_id: str | None = Field(None, max_length=256)
    tags: tuple[TextPair, ...] = Field((), max_length=100)

    def read(self) -> Iterator[Named]:
        """What is read for it; raises ArtifactPathRefused or LoggedModelRefused for a source that is none."""
        if self.run_id:
            yield Named("run", self.run_id)
        match read_source(self.source):
            case LoggedModelSource(model):
                yield Named("logged model", model)
            case RunSource(of, _):
                yield Named("run", of)
            case None:
                yield from named_by(read_uri(self.source))


PATH = "/model-versions/create"
READS = "experiments.read"
"""What somebody does with the source of a version, and with the run that is said to have made it."""


def add_registration(
    routes: APIRouter,
    access: LoopAccess,
    edge: CommandEdge,
    handlers: RegistrationHandlers,
    notes: NoteHandlers,
    reader: ModelReader,
) -> None:
    """Add the route that registers a logged model."""
    action = ACTIONS["POST", routes.prefix + PATH]

    async def create_version(request: Request) -> JSONResponse:
        command = await edge.accept(request.headers)
        asked = await read_request(CreateVersion, request)
        await access.require(action, asked.named())
        await access.require(READS, asked.read())
        tags = {tag.key: tag.value for tag in asked.tags}
        for key in tags:
            check_own_tag(key)
        version = (await handlers.register(command, asked.name, asked.source, asked.run_id)).model.version
        if (number := await handlers.versions.number(asked.name, version)) is None:
            raise VersionNotFound(f"Model Version (name={asked.name}, version={version}) not found")
        if tags:
            await command.run(lambda actor: notes.set_tags(asked.name, number, tags, actor=actor))
        if asked.description:
            await command.run(lambda actor: notes.describe(asked.name, number, asked.description, actor=actor))
        return JSONResponse({"model_version": version_view(await find_version(reader, asked.name, number))})

    routes.add_api_route(PATH, create_version, methods=["POST"], include_in_schema=False)
