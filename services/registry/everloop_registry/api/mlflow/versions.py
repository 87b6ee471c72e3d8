"""Model versions, which are versions of loops, as MLflow's clients ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter
from pydantic import Field

from everloop_registry.api.mlflow.models import PROMOTION, ByModel, find_model
from everloop_registry.api.mlflow.requests import (
    Answer,
    Commands,
    Description,
    Filter,
    Listed,
    MlflowRequest,
    OrderBy,
    Queries,
    TextKey,
    TextPair,
    Token,
    page_token,
)
from everloop_registry.api.mlflow.views import version_view
from everloop_registry.domain.filters import parse_orders
from everloop_registry.domain.pages import Paging
from everloop_registry.domain.registered_models import VERSIONS, ModelVersion, parse_model_filter
from everloop_registry.errors import ByHandRefused, VersionNotFound
from everloop_registry.handlers.notes import NoteHandlers
from everloop_registry.ports import ModelReader
from everloop_schemas.envelope import Event
from everloop_shared.commands import Actor


class ByVersion(ByModel):
    """A model version by its number."""

    version: int = Field(ge=1, lt=2**31)


class SearchVersions(MlflowRequest):
    """Which model versions."""

    filter: Filter | None = None
    max_results: int = Field(10_000, ge=1, le=200_000)
    order_by: Annotated[OrderBy, Listed] = ()
    page_token: Token | None = None


class Describe(ByVersion, Description):
    """A new description."""


class SetVersionTag(ByVersion, TextPair):
    """A tag of a version."""


class DeleteVersionTag(ByVersion, TextKey):
    """A tag of a version, by its key."""


def add_versions(
    routes: APIRouter, queries: Queries, commands: Commands, notes: NoteHandlers, reader: ModelReader
) -> None:
    """Add the routes of model versions."""
    _add_queries(routes, queries, reader)
    _add_notes(routes, commands, notes, reader)
    _add_refusals(routes, queries)


async def find_version(reader: ModelReader, name: str, number: int) -> ModelVersion:
    """A model version; raises LoopNotApplied or VersionNotFound."""
    if (found := await reader.version(name, number)) is None:
        await find_model(reader, name)
        raise VersionNotFound(f"Model Version (name={name}, version={number}) not found")
    return found


def _add_queries(routes: APIRouter, queries: Queries, reader: ModelReader) -> None:
    async def search(asked: SearchVersions, among: frozenset[str] | None) -> Answer:
        paging = Paging.of(asked.page_token, asked.max_results)
        conditions, orders = parse_model_filter(asked.filter, VERSIONS), parse_orders(asked.order_by, VERSIONS)
        page = await reader.search_versions(conditions, orders, paging, among)
        return {"model_versions": [version_view(v) for v in page.found], **page_token(page)}

    async def get(asked: ByVersion) -> Answer:
        return {"model_version": version_view(await find_version(reader, asked.name, asked.version))}

    async def get_download_uri(asked: ByVersion) -> Answer:
        return {"artifact_uri": (await find_version(reader, asked.name, asked.version)).source}

    queries.add_search(routes, "/model-versions/search", SearchVersions, search)
    queries.add(routes, "/model-versions/get", ByVersion, get)
    queries.add(routes, "/model-versions/get-download-uri", ByVersion, get_download_uri)


def _add_notes(routes: APIRouter, commands: Commands, notes: NoteHandlers, reader: ModelReader) -> None:
    async def describe(asked: Describe, actor: Actor) -> Sequence[Event]:
        return await notes.describe(asked.name, asked.version, asked.description, actor=actor)

    async def described(asked: Describe, events: Sequence[Event]) -> Answer:
        return {"model_version": version_view(await find_version(reader, asked.name, asked.version))}

    async def set_tag(asked: SetVersionTag, actor: Actor) -> Sequence[Event]:
        return await notes.set_tags(asked.name, asked.version, {asked.key: asked.value}, actor=actor)

    async def delete_tag(asked: DeleteVersionTag, actor: Actor) -> Sequence[Event]:
        return await notes.delete_tag(asked.name, asked.version, asked.key, actor=actor)

    commands.add(routes, "/model-versions/update", Describe, describe, described, method="PATCH")
    commands.add(routes, "/model-versions/set-tag", SetVersionTag, set_tag)
    commands.add(routes, "/model-versions/delete-tag", DeleteVersionTag, delete_tag, method="DELETE")


def _add_refusals(routes: APIRouter, queries: Queries) -> None:
    async def change_stage(asked: ByVersion) -> Answer:
        raise ByHandRefused(f"versions of {asked.name} have no stages that are set by hand: {PROMOTION}")

    async def delete(asked: ByVersion) -> Answer:
        raise ByHandRefused(
            f"version {asked.version} of {asked.name} is not deleted: the log of decisions names it for ever; its "
            "artifact goes once no rollback may need it"
        )

    queries.add(routes, "/model-versions/transition-stage", ByVersion, change_stage, ("POST",))
    queries.add(routes, "/model-versions/delete", ByVersion, delete, ("DELETE",))
