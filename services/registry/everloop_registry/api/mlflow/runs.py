"""Runs, as MLflow's clients log, ask for and search them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter

from everloop_registry.api.mlflow import run_requests as r
from everloop_registry.api.mlflow.access import permitted_experiments
from everloop_registry.api.mlflow.requests import Answer, Commands, Queries, page_token
from everloop_registry.api.mlflow.views import metric_view, run_view
from everloop_registry.domain.filters import parse_filter, parse_orders
from everloop_registry.domain.pages import Paging
from everloop_registry.domain.run_search import RUNS, LoggedRun
from everloop_registry.errors import RunNotFound
from everloop_registry.handlers.runs import Logged, NewRun, RunHandlers
from everloop_registry.ports import RunReader
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import ModelLink
from everloop_shared.commands import Actor

HISTORY_PAGE = 25_000
"""The values of a metric in one answer to a client that asks for no pages, which reads no further."""


def add_runs(routes: APIRouter, queries: Queries, commands: Commands, handlers: RunHandlers, reader: RunReader) -> None:
    """Add the routes of runs."""
    _add_queries(routes, queries, reader)
    _add_life(routes, commands, handlers, reader)
    _add_logging(routes, commands, handlers)


async def find_run(reader: RunReader, run: str) -> LoggedRun:
    """A run; raises RunNotFound."""
    if (found := await reader.run(run)) is None:
        raise RunNotFound(f"Run with id={run} not found")
    return found


def _add_queries(routes: APIRouter, queries: Queries, reader: RunReader) -> None:
    async def get(asked: r.ByRun) -> Answer:
        return {"run": run_view(await find_run(reader, asked.run_id))}

    async def search(asked: r.SearchRuns, among: frozenset[str] | None) -> Answer:
        paging = Paging.of(asked.page_token, asked.max_results)
        conditions, orders = parse_filter(asked.filter, RUNS), parse_orders(asked.order_by, RUNS)
        experiments = permitted_experiments(asked.experiment_ids, among)
        page = await reader.search_runs(experiments, asked.run_view_type, conditions, orders, paging)
        return {"runs": [run_view(run) for run in page.found], **page_token(page)}

    async def get_history(asked: r.MetricHistory) -> Answer:
        await find_run(reader, asked.run_id)
        paging = Paging.of(asked.page_token, asked.max_results or HISTORY_PAGE, HISTORY_PAGE)
        page = await reader.metric_history(asked.run_id, asked.metric_key, paging)
        return {"metrics": [metric_view(metric) for metric in page.found], **page_token(page)}

    queries.add(routes, "/runs/get", r.ByRun, get)
    queries.add_search(routes, "/runs/search", r.SearchRuns, search, ("POST",))
    queries.add(routes, "/metrics/get-history", r.MetricHistory, get_history)


def _add_life(routes: APIRouter, commands: Commands, handlers: RunHandlers, reader: RunReader) -> None:
    async def create(asked: r.CreateRun, actor: Actor) -> Sequence[Event]:
        tags = {tag.key: tag.value for tag in asked.tags}
        new = NewRun(asked.experiment_id, asked.run_name, asked.user_id, asked.start_time, tags)
        return await handlers.create(new, actor=actor)

    async def created(asked: r.CreateRun, events: Sequence[Event]) -> Answer:
        return {"run": run_view(await find_run(reader, events[0].subject))}

    async def update(asked: r.UpdateRun, actor: Actor) -> Sequence[Event]:
        return await handlers.update(asked.run_id, asked.status, asked.end_time, asked.run_name, actor=actor)

    async def updated(asked: r.UpdateRun, events: Sequence[Event]) -> Answer:
        return {"run_info": run_view(await find_run(reader, asked.run_id))["info"]}

    async def delete(asked: r.ByRun, actor: Actor) -> Sequence[Event]:
        return await handlers.set_stage(asked.run_id, deleted=True, actor=actor)

    async def restore(asked: r.ByRun, actor: Actor) -> Sequence[Event]:
        return await handlers.set_stage(asked.run_id, deleted=False, actor=actor)

    commands.add(routes, "/runs/create", r.CreateRun, create, created)
    commands.add(routes, "/runs/update", r.UpdateRun, update, updated)
    commands.add(routes, "/runs/delete", r.ByRun, delete)
    commands.add(routes, "/runs/restore", r.ByRun, restore)


def _add_logging(routes: APIRouter, commands: Commands, handlers: RunHandlers) -> None:
    async def log_metric(asked: r.LogMetric, actor: Actor) -> Sequence[Event]:
        return await handlers.log(asked.run_id, Logged(metrics=[asked.metric()]), actor=actor)

    async def log_parameter(asked: r.LogParameter, actor: Actor) -> Sequence[Event]:
        return await handlers.log(asked.run_id, Logged(parameters=[(asked.key, asked.value)]), actor=actor)

    async def log_batch(asked: r.LogBatch, actor: Actor) -> Sequence[Event]:
        logged = Logged(
            parameters=[(p.key, p.value) for p in asked.params],
            metrics=[metric.metric() for metric in asked.metrics],
            tags={tag.key: tag.value for tag in asked.tags},
        )
        return await handlers.log(asked.run_id, logged, actor=actor)

    async def set_tag(asked: r.SetTag, actor: Actor) -> Sequence[Event]:
        return await handlers.log(asked.run_id, Logged(tags={asked.key: asked.value}), actor=actor)

    async def delete_tag(asked: r.DeleteTag, actor: Actor) -> Sequence[Event]:
        return await handlers.delete_tag(asked.run_id, asked.key, actor=actor)

    async def log_inputs(asked: r.LogInputs, actor: Actor) -> Sequence[Event]:
        logged = Logged(inputs=[one.data_set() for one in asked.datasets], models=_links(asked.models, "input"))
        return await handlers.log(asked.run_id, logged, actor=actor)

    async def log_outputs(asked: r.LogOutputs, actor: Actor) -> Sequence[Event]:
        return await handlers.log(asked.run_id, Logged(models=_links(asked.models, "output")), actor=actor)

    commands.add(routes, "/runs/log-metric", r.LogMetric, log_metric)
    commands.add(routes, "/runs/log-parameter", r.LogParameter, log_parameter)
    commands.add(routes, "/runs/log-batch", r.LogBatch, log_batch)
    commands.add(routes, "/runs/set-tag", r.SetTag, set_tag)
    commands.add(routes, "/runs/delete-tag", r.DeleteTag, delete_tag)
    commands.add(routes, "/runs/log-inputs", r.LogInputs, log_inputs)
    commands.add(routes, "/runs/outputs", r.LogOutputs, log_outputs)


def _links(models: Sequence[r.ModelInput], direction: Literal["input", "output"]) -> list[ModelLink]:
    return [ModelLink(model=model.model_id, direction=direction, step=model.step) for model in models]
