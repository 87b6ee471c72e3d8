"""All routes of MLflow's API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Depends

from everloop_registry.api.mlflow.access import LoopAccess
from everloop_registry.api.mlflow.artifacts import add_artifacts
from everloop_registry.api.mlflow.errors import MlflowRoute
from everloop_registry.api.mlflow.experiments import add_experiments
from everloop_registry.api.mlflow.logged_models import add_logged_models
from everloop_registry.api.mlflow.models import add_models
from everloop_registry.api.mlflow.registration import add_registration
from everloop_registry.api.mlflow.requests import Commands, Queries
from everloop_registry.api.mlflow.runs import add_runs
from everloop_registry.api.mlflow.versions import add_versions
from everloop_registry.errors import RecoveryInProgress
from everloop_registry.handlers.experiments import ExperimentHandlers
from everloop_registry.handlers.logged_models import LoggedModelHandlers
from everloop_registry.handlers.notes import NoteHandlers
from everloop_registry.handlers.registrations import RegistrationHandlers
from everloop_registry.handlers.runs import RunHandlers
from everloop_registry.ports import ArtifactFiles, LoggedModelReader, LoopFinder, ModelReader, RunReader, TrackingReader
from everloop_shared.commands import CommandEdge
from everloop_shared.http.uploads import UploadFolder

PREFIX = "/api/2.0/mlflow"
SERVER_INFO = "/api/3.0/mlflow/server-info"


@dataclass(frozen=True)
class MlflowApi:
    """What the routes need."""

    experiments: ExperimentHandlers
    runs: RunHandlers
    run_reader: RunReader
    notes: NoteHandlers
    reader: TrackingReader
    models: ModelReader
    files: ArtifactFiles
    uploads: UploadFolder
    max_file_bytes: int
    logged_models: LoggedModelHandlers
    logged_model_reader: LoggedModelReader
    registrations: RegistrationHandlers
    finder: LoopFinder


def mlflow_router(api: MlflowApi, edge: CommandEdge, recovered: Callable[[], bool]) -> APIRouter:
    """The routes; they answer 503 until the registry has `recovered`."""

    async def require_recovery() -> None:
        if not recovered():
            raise RecoveryInProgress("the registry is reading its topics; try again in a moment")

    access = LoopAccess(api.finder)
    queries, commands = Queries(access), Commands(edge, access)
    routes = APIRouter(route_class=MlflowRoute, dependencies=[Depends(require_recovery)])
    under = APIRouter(prefix=PREFIX, route_class=MlflowRoute)
    add_experiments(under, queries, commands, api.experiments, api.reader, api.run_reader)
    add_runs(under, queries, commands, api.runs, api.run_reader)
    add_models(under, queries, commands, api.notes, api.models)
    add_versions(under, queries, commands, api.notes, api.models)
    add_logged_models(under, queries, commands, api.logged_models, api.logged_model_reader, api.files)
    add_registration(under, access, edge, api.registrations, api.notes, api.models)
    routes.include_router(under)
    add_artifacts(routes, access, api.files, api.uploads, api.max_file_bytes)

    @routes.get(SERVER_INFO, include_in_schema=False)
    async def get_server_info() -> dict[str, Any]:
        return {"store_type": "SqlStore", "workspaces_enabled": False, "trace_archival_enabled": False}

    return routes
