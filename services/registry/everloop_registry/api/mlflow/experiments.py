"""Experiments, as MLflow's clients ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from everloop_registry.api.mlflow.access import Named
from everloop_registry.api.mlflow.requests import (
    Answer,
    Commands,
    Filter,
    Id,
    Key,
    Listed,
    MlflowRequest,
    Name,
    OrderBy,
    Queries,
    TextKey,
    TextPair,
    Token,
    page_token,
)
from everloop_registry.api.mlflow.views import experiment_view
from everloop_registry.domain.filters import parse_filter, parse_orders
from everloop_registry.domain.pages import Paging
from everloop_registry.domain.run_search import EXPERIMENTS, ViewType
from everloop_registry.domain.tracking import Experiment
from everloop_registry.errors import ExperimentNotFound
from everloop_registry.handlers.experiments import ExperimentHandlers
from everloop_registry.ports import RunReader, TrackingReader
from everloop_schemas.envelope import Event
from everloop_shared.commands import Actor


class CreateExperiment(MlflowRequest):
    """A new experiment."""

    name: Name
    artifact_location: str | None = Field(None, max_length=2_048)
    tags: tuple[TextPair, ...] = Field((), max_length=100)

    def named(self) -> list[Named]:
        """The experiment that has the name already: where it is a loop's, its people read that it exists."""
        return [Named("experiment named", self.name)]


class ByExperiment(MlflowRequest):
    """An experiment by its id."""

    experiment_id: Id

    def named(self) -> list[Named]:
        """The experiment."""
        return [Named("experiment", self.experiment_id)]


class ByName(MlflowRequest):
    """An experiment by its name."""

    experiment_name: Name

    def named(self) -> list[Named]:
        """The experiment."""
        return [Named("experiment named", self.experiment_name)]


class SearchExperiments(MlflowRequest):
    """Which experiments."""

    filter: Filter | None = None
    view_type: ViewType = "ACTIVE_ONLY"
    max_results: int = Field(1_000, ge=1, le=50_000)
    order_by: Annotated[OrderBy, Listed] = ()
    page_token: Token | None = None


class UpdateExperiment(ByExperiment):
    """A new name."""

    new_name: Name


class SetExperimentTag(ByExperiment):
    """A tag of an experiment."""

    key: Key
    value: str = Field("", max_length=20_000)


class DeleteExperimentTag(ByExperiment, TextKey):
    """A tag of an experiment, by its key."""


def add_experiments(
    routes: APIRouter,
    queries: Queries,
    commands: Commands,
    handlers: ExperimentHandlers,
    reader: TrackingReader,
    search: RunReader,
) -> None:
    """Add the routes of experiments."""
    _add_queries(routes, queries, reader, search)
    _add_changes(routes, commands, handlers)


def _add_queries(routes: APIRouter, queries: Queries, reader: TrackingReader, search: RunReader) -> None:
    async def get(asked: ByExperiment) -> Answer:
        return await _answer(reader, await reader.experiment(asked.experiment_id), f"id={asked.experiment_id}")

    async def get_by_name(asked: ByName) -> Answer:
        return await _answer(reader, await reader.experiment_named(asked.experiment_name), asked.experiment_name)

    async def search_experiments(asked: SearchExperiments, among: frozenset[str] | None) -> Answer:
        paging = Paging.of(asked.page_token, asked.max_results)
        conditions, orders = parse_filter(asked.filter, EXPERIMENTS), parse_orders(asked.order_by, EXPERIMENTS)
        page = await search.search_experiments(asked.view_type, conditions, orders, paging, among)
        return {"experiments": [experiment_view(one, tags) for one, tags in page.found], **page_token(page)}

    queries.add_search(routes, "/experiments/search", SearchExperiments, search_experiments, ("GET", "POST"))
    queries.add(routes, "/experiments/get", ByExperiment, get)
    queries.add(routes, "/experiments/get-by-name", ByName, get_by_name)


def _add_changes(routes: APIRouter, commands: Commands, handlers: ExperimentHandlers) -> None:
    async def create(asked: CreateExperiment, actor: Actor) -> Sequence[Event]:
        tags = {tag.key: tag.value for tag in asked.tags}
        return await handlers.create(asked.name, asked.artifact_location, tags, actor=actor)

    async def created(asked: CreateExperiment, events: Sequence[Event]) -> Answer:
        return {"experiment_id": events[0].subject}

    commands.add(routes, "/experiments/create", CreateExperiment, create, created)

    async def rename(asked: UpdateExperiment, actor: Actor) -> Sequence[Event]:
        return await handlers.rename(asked.experiment_id, asked.new_name, actor=actor)

    async def delete(asked: ByExperiment, actor: Actor) -> Sequence[Event]:
        return await handlers.set_stage(asked.experiment_id, deleted=True, actor=actor)

    async def restore(asked: ByExperiment, actor: Actor) -> Sequence[Event]:
        return await handlers.set_stage(asked.experiment_id, deleted=False, actor=actor)

    async def set_tag(asked: SetExperimentTag, actor: Actor) -> Sequence[Event]:
        return await handlers.set_tag(asked.experiment_id, asked.key, asked.value, actor=actor)

    async def delete_tag(asked: DeleteExperimentTag, actor: Actor) -> Sequence[Event]:
        return await handlers.delete_tag(asked.experiment_id, asked.key, actor=actor)

    commands.add(routes, "/experiments/update", UpdateExperiment, rename)
    commands.add(routes, "/experiments/delete", ByExperiment, delete)
    commands.add(routes, "/experiments/restore", ByExperiment, restore)
    commands.add(routes, "/experiments/set-experiment-tag", SetExperimentTag, set_tag)
    commands.add(routes, "/experiments/delete-experiment-tag", DeleteExperimentTag, delete_tag)


async def _answer(reader: TrackingReader, found: Experiment | None, which: str) -> Answer:
    if found is None:
        raise ExperimentNotFound(f"No Experiment with {which} exists")
    return {"experiment": experiment_view(found, (await reader.experiment_tags([found.id]))[found.id])}
