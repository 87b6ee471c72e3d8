"""Registered models, which are loops, as MLflow's clients ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from everloop_registry.api.mlflow.access import Named
from everloop_registry.api.mlflow.requests import (
    Answer,
    Commands,
    Description,
    Filter,
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
from everloop_registry.api.mlflow.views import model_view, version_view
from everloop_registry.domain.filters import parse_orders
from everloop_registry.domain.pages import Paging
from everloop_registry.domain.registered_models import MODELS, RegisteredModel, parse_model_filter
from everloop_registry.errors import AliasNotFound, ByHandRefused, LoopNotApplied, ModelExists
from everloop_registry.handlers.notes import NoteHandlers
from everloop_registry.ports import ModelReader
from everloop_schemas.envelope import Event
from everloop_shared.commands import Actor

PROMOTION = (
    "a version is promoted by the gate and a rollout, once its line is better than the champion's on the same "
    "outcomes; to go back to an earlier version: everloop rollback LOOP --to VERSION"
)


class ByModel(MlflowRequest):
    """A registered model by its name."""

    name: Name

    def named(self) -> list[Named]:
        """The loop."""
        return [Named("loop", self.name)]


class SearchModels(MlflowRequest):
    """Which registered models."""

    filter: Filter | None = None
    max_results: int = Field(100, ge=1, le=1_000)
    order_by: Annotated[OrderBy, Listed] = ()
    page_token: Token | None = None


class LatestVersions(ByModel):
    """The latest version of a model in each stage; the versions of loops have none."""

    stages: Annotated[tuple[str, ...], Listed, Field(max_length=10)] = ()


class Describe(ByModel, Description):
    """A new description."""


class SetModelTag(ByModel, TextPair):
    """A tag of a model."""


class DeleteModelTag(ByModel, TextKey):
    """A tag of a model, by its key."""


class ByAlias(ByModel):
    """An alias of a model."""

    alias: str = Field(min_length=1, max_length=255)


def add_models(
    routes: APIRouter, queries: Queries, commands: Commands, notes: NoteHandlers, reader: ModelReader
) -> None:
    """Add the routes of registered models."""
    _add_queries(routes, queries, reader)
    _add_notes(routes, commands, notes, reader)
    _add_refusals(routes, queries, reader)


async def find_model(reader: ModelReader, name: str) -> RegisteredModel:
    """A registered model; raises LoopNotApplied."""
    if (found := await reader.model(name)) is None:
        raise LoopNotApplied(name)
    return found


def _add_queries(routes: APIRouter, queries: Queries, reader: ModelReader) -> None:
    async def search(asked: SearchModels, among: frozenset[str] | None) -> Answer:
        paging = Paging.of(asked.page_token, asked.max_results)
        conditions, orders = parse_model_filter(asked.filter, MODELS), parse_orders(asked.order_by, MODELS)
        page = await reader.search_models(conditions, orders, paging, among)
        return {"registered_models": [model_view(m) for m in page.found], **page_token(page)}

    async def get(asked: ByModel) -> Answer:
        return {"registered_model": model_view(await find_model(reader, asked.name))}

    async def get_by_alias(asked: ByAlias) -> Answer:
        model = await find_model(reader, asked.name)
        number = model.aliases.get(asked.alias)
        found = None if number is None else await reader.version(asked.name, number)
        if found is None:
            raise AliasNotFound(
                f"Registered model alias {asked.alias} not found for {asked.name}: the aliases of a loop are champion, "
                "unless it serves version 0, and challenger and candidate while a rollout runs"
            )
        return {"model_version": version_view(found)}

    async def get_latest(asked: LatestVersions) -> Answer:
        latest = (await find_model(reader, asked.name)).latest
        wanted = not asked.stages or any(stage.lower() == "none" for stage in asked.stages)
        return {"model_versions": [version_view(latest)] if latest and wanted else []}

    queries.add_search(routes, "/registered-models/search", SearchModels, search)
    queries.add(routes, "/registered-models/get", ByModel, get)
    queries.add(routes, "/registered-models/alias", ByAlias, get_by_alias)
    queries.add(routes, "/registered-models/get-latest-versions", LatestVersions, get_latest, ("GET", "POST"))


def _add_notes(routes: APIRouter, commands: Commands, notes: NoteHandlers, reader: ModelReader) -> None:
    async def describe(asked: Describe, actor: Actor) -> Sequence[Event]:
        return await notes.describe(asked.name, None, asked.description, actor=actor)

    async def described(asked: Describe, events: Sequence[Event]) -> Answer:
        return {"registered_model": model_view(await find_model(reader, asked.name))}

    async def set_tag(asked: SetModelTag, actor: Actor) -> Sequence[Event]:
        return await notes.set_tags(asked.name, None, {asked.key: asked.value}, actor=actor)

    async def delete_tag(asked: DeleteModelTag, actor: Actor) -> Sequence[Event]:
        return await notes.delete_tag(asked.name, None, asked.key, actor=actor)

    commands.add(routes, "/registered-models/update", Describe, describe, described, method="PATCH")
    commands.add(routes, "/registered-models/set-tag", SetModelTag, set_tag)
    commands.add(routes, "/registered-models/delete-tag", DeleteModelTag, delete_tag, method="DELETE")


def _add_refusals(routes: APIRouter, queries: Queries, reader: ModelReader) -> None:
    async def create(asked: ByModel) -> Answer:
        await find_model(reader, asked.name)
        raise ModelExists(f"Registered Model (name={asked.name}) already exists: it is the loop of this name")

    async def rename(asked: ByModel) -> Answer:
        raise ByHandRefused(f"{asked.name} is not renamed: a registered model is a loop, whose name stays")

    async def delete(asked: ByModel) -> Answer:
        raise ByHandRefused(f"{asked.name} is not deleted here: a registered model is a loop; everloop delete LOOP")

    async def change_alias(asked: ByAlias) -> Answer:
        raise ByHandRefused(f"the alias {asked.alias} of {asked.name} is not set or deleted by hand: {PROMOTION}")

    queries.add(routes, "/registered-models/create", ByModel, create, ("POST",))
    queries.add(routes, "/registered-models/rename", ByModel, rename, ("POST",))
    queries.add(routes, "/registered-models/delete", ByModel, delete, ("DELETE",))
    queries.add(routes, "/registered-models/alias", ByAlias, change_alias, ("POST", "DELETE"))
