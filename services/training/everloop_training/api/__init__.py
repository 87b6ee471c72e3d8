"""The HTTP endpoints of training."""

from fastapi import APIRouter

from everloop_shared.commands import CommandEdge
from everloop_training.api import data_sets, routes
from everloop_training.handlers import Handlers
from everloop_training.ports import DataSetStore


def router(handlers: Handlers, commands: CommandEdge, store: DataSetStore) -> APIRouter:
    """All routes of the service."""
    whole = APIRouter()
    whole.include_router(routes.router(handlers, commands))
    whole.include_router(data_sets.router(store))
    return whole
