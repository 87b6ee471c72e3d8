"""Experiments, as MLflow's clients ask for them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import Field

from everloop_registry.api.mlflow.requests import Answer, Commands, Id, MlflowRequest, Name, TextPair, add_query
from everloop_registry.api.mlflow.views import experiment_view
from everloop_registry.domain.tracking import Experiment
from everloop_registry.errors import ExperimentNotFound
from everloop_registry.handlers.experiments import ExperimentHandlers
from everloop_registry.ports import TrackingReader
from everloop_schemas.envelope import Event
from everloop_shared.commands import Actor


class CreateExperiment(MlflowRequest):
    """A new experiment."""

    name: Name
    artifact_location: str | None = Field(None, max_length=2_048)
    tags: tuple[TextPair, ...] = Field((), max_length=100)


class ByExperiment(MlflowRequest):
    """An experiment by its id."""

    experiment_id: Id


class ByName(MlflowRequest):
    """An experiment by its name."""

    experiment_name: Name


def add_experiments(
    routes: APIRouter, commands: Commands, handlers: ExperimentHandlers, reader: TrackingReader
) -> None:
    """Add the routes of experiments."""

    async def create(asked: CreateExperiment, actor: Actor) -> Sequence[Event]:
        tags = {tag.key: tag.value for tag in asked.tags}
        return await handlers.create(asked.name, asked.artifact_location, tags, actor=actor)

    async def created(asked: CreateExperiment, events: Sequence[Event]) -> Answer:
        return {"experiment_id": events[0].subject}

    commands.add(routes, "/experiments/create", CreateExperiment, create, created)

    async def get(asked: ByExperiment) -> Answer:
        return await _answer(reader, await reader.experiment(asked.experiment_id), f"id={asked.experiment_id}")

    async def get_by_name(asked: ByName) -> Answer:
        return await _answer(reader, await reader.experiment_named(asked.experiment_name), asked.experiment_name)

    add_query(routes, "/experiments/get", ByExperiment, get)
    add_query(routes, "/experiments/get-by-name", ByName, get_by_name)


async def _answer(reader: TrackingReader, found: Experiment | None, which: str) -> Answer:
    if found is None:
        raise ExperimentNotFound(f"No Experiment with {which} exists")
    return {"experiment": experiment_view(found, (await reader.experiment_tags([found.id]))[found.id])}
