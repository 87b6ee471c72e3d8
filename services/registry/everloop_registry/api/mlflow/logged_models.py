"""Logged models, as MLflow's clients log, search and read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

from fastapi import APIRouter
from pydantic import Field

from everloop_registry.api.mlflow.access import Named, permitted_experiments
from everloop_registry.api.mlflow.artifacts import entry_view
from everloop_registry.api.mlflow.requests import (
    Answer,
    Commands,
    Filter,
    Id,
    Key,
    MlflowRequest,
    Name,
    Queries,
    TextPair,
    Token,
    page_token,
)
from everloop_registry.api.mlflow.views import metric_view, pairs
from everloop_registry.domain.filters import Order, parse_orders
from everloop_registry.domain.model_search import LOGGED_MODELS, parse_logged_model_filter
from everloop_registry.domain.pages import Paging
from everloop_registry.domain.tracking import PROXY, LoggedModel, LoggedModelDetails
from everloop_registry.errors import LoggedModelNotFound
from everloop_registry.handlers.logged_models import LoggedModelHandlers
from everloop_registry.ports import ArtifactFiles, LoggedModelReader
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import LoggedModelChange
from everloop_shared.commands import Actor

PREFIX = "/logged-models"
Asked = TypeVar("Asked", bound="ByModel")


class CreateModel(MlflowRequest):
    """A new logged model."""

    experiment_id: Id
    name: Name | None = None
    model_type: str | None = Field(None, max_length=500)
    source_run_id: Id | None = None
    params: tuple[TextPair, ...] = Field((), max_length=1_000)
    tags: tuple[TextPair, ...] = Field((), max_length=100)

    def named(self) -> list[Named]:
        """The experiment, and the run that made it."""
        run = [Named("run", self.source_run_id)] if self.source_run_id else []
        return [Named("experiment", self.experiment_id), *run]


class ByModel(MlflowRequest):
    """A logged model by its id."""

    model_id: Id

    def named(self) -> list[Named]:
        """The logged model."""
        return [Named("logged model", self.model_id)]


class Finalize(ByModel):
    """Its files are there, or will not come."""

    status: Literal["LOGGED_MODEL_READY", "LOGGED_MODEL_UPLOAD_FAILED"]


class SetTags(ByModel):
    """New tags."""

    tags: tuple[TextPair, ...] = Field((), max_length=100)


class DeleteTag(ByModel):
    """A tag that goes."""

    tag_key: Key


class LogParameters(ByModel):
    """More parameters."""

    params: tuple[TextPair, ...] = Field((), max_length=1_000)


class ListFiles(ByModel):
    """A folder of its files."""

    artifact_directory_path: str = Field("", max_length=1_000)


class OrderBy(MlflowRequest):
    """What an answer is sorted by."""

    field_name: str = Field(max_length=600)
    ascending: bool = True


class Search(MlflowRequest):
    """Which logged models to find."""

    experiment_ids: tuple[Id, ...] = Field((), max_length=1_000)
    filter: Filter = ""
    max_results: int = Field(100, ge=1, le=1_000)
    order_by: tuple[OrderBy, ...] = Field((), max_length=20)
    page_token: Token = ""


def add_logged_models(
    routes: APIRouter,
    queries: Queries,
    commands: Commands,
    handlers: LoggedModelHandlers,
    reader: LoggedModelReader,
    files: ArtifactFiles,
) -> None:
    """Add the routes of logged models."""
    _add_creation(routes, commands, handlers, reader)
    _add_changes(routes, commands, handlers, reader)
    _add_queries(routes, queries, reader, files)


async def find_logged_model(reader: LoggedModelReader, model: str) -> LoggedModel:
    """A logged model; raises LoggedModelNotFound."""
    if (found := await reader.logged_model(model)) is None:
        raise LoggedModelNotFound(f"Logged model with ID {model!r} not found.")
    return found


def _add_creation(
    routes: APIRouter, commands: Commands, handlers: LoggedModelHandlers, reader: LoggedModelReader
) -> None:
    async def create(asked: CreateModel, actor: Actor) -> Sequence[Event]:
        new = LoggedModelChange(
            id="",
            experiment=asked.experiment_id,
            name=asked.name,
            kind=asked.model_type,
            run=asked.source_run_id,
            parameters={p.key: p.value for p in asked.params},
            tags={t.key: t.value for t in asked.tags},
        )
        return await handlers.create(new, actor=actor)

    async def created(asked: CreateModel, events: Sequence[Event]) -> Answer:
        return await _answer(reader, events[0].subject)

    commands.add(routes, PREFIX, CreateModel, create, created)


def _add_changes(
    routes: APIRouter, commands: Commands, handlers: LoggedModelHandlers, reader: LoggedModelReader
) -> None:
    async def finalize(asked: Finalize, actor: Actor) -> Sequence[Event]:
        return await handlers.set_status(asked.model_id, asked.status, actor=actor)

    async def set_tags(asked: SetTags, actor: Actor) -> Sequence[Event]:
        return await handlers.set_tags(asked.model_id, {t.key: t.value for t in asked.tags}, actor=actor)

    async def delete_tag(asked: DeleteTag, actor: Actor) -> Sequence[Event]:
        return await handlers.delete_tag(asked.model_id, asked.tag_key, actor=actor)

    async def log_parameters(asked: LogParameters, actor: Actor) -> Sequence[Event]:
        return await handlers.add_parameters(asked.model_id, {p.key: p.value for p in asked.params}, actor=actor)

    async def delete(asked: ByModel, actor: Actor) -> Sequence[Event]:
        return await handlers.delete(asked.model_id, actor=actor)

    async def changed(asked: ByModel, events: Sequence[Event]) -> Answer:
        return await _answer(reader, asked.model_id)

    one = PREFIX + "/{model_id}"
    commands.add(routes, one, Finalize, finalize, changed, "PATCH")
    commands.add(routes, one, ByModel, delete, None, "DELETE")
    commands.add(routes, f"{one}/tags", SetTags, set_tags, changed, "PATCH")
    commands.add(routes, one + "/tags/{tag_key}", DeleteTag, delete_tag, None, "DELETE")
    commands.add(routes, f"{one}/params", LogParameters, log_parameters)


def _add_queries(routes: APIRouter, queries: Queries, reader: LoggedModelReader, files: ArtifactFiles) -> None:
    async def search(asked: Search, among: frozenset[str] | None) -> Answer:
        paging = Paging.of(asked.page_token, asked.max_results)
        conditions = parse_logged_model_filter(asked.filter)
        orders = [
            Order(order.field, not each.ascending)
            for each in asked.order_by
            for order in parse_orders([each.field_name], LOGGED_MODELS)
        ]
        experiments = permitted_experiments(asked.experiment_ids, among)
        page = await reader.search_logged_models(experiments, conditions, orders, paging)
        return {"models": [model_view(m) for m in page.found], **page_token(page)}

    async def get(asked: ByModel) -> Answer:
        return await _answer(reader, asked.model_id)

    async def list_files(asked: ListFiles) -> Answer:
        model = await find_logged_model(reader, asked.model_id)
        folder = asked.artifact_directory_path.strip("/")
        path = f"{model.artifact_location.removeprefix(PROXY)}/{folder}".strip("/")
        found = await files.entries(path) if model.artifact_location.startswith(PROXY) else []
        views = [{**entry_view(e), "path": f"{folder}/{e.path}".lstrip("/")} for e in found]
        return {"root_uri": model.artifact_location, "files": views}

    queries.add_search(routes, f"{PREFIX}/search", Search, search, ["POST"])
    queries.add(routes, PREFIX + "/{model_id}", ByModel, get)
    queries.add(routes, PREFIX + "/{model_id}/artifacts/directories", ListFiles, list_files)


async def _answer(reader: LoggedModelReader, model_id: str) -> Answer:
    [found] = await reader.details([await find_logged_model(reader, model_id)])
    return {"model": model_view(found)}


def model_view(found: LoggedModelDetails) -> dict[str, Any]:
    """A logged model as MLflow writes it."""
    model = found.model
    info = {
        "model_id": model.id,
        "experiment_id": model.experiment,
        "name": model.name,
        "creation_timestamp_ms": model.created_ms,
        "last_updated_timestamp_ms": model.updated_ms,
        "artifact_uri": model.artifact_location,
        "status": model.status,
        "status_message": model.message,
        "model_type": model.kind,
        "tags": pairs(found.tags),
        **({"source_run_id": model.run} if model.run else {}),
    }
    data = {"params": pairs(found.parameters), "metrics": [metric_view(metric) for metric in found.metrics]}
    return {"info": info, "data": data}
