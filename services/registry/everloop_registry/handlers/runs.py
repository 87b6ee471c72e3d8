"""What the registry does about the commands of MLflow's clients on runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from everloop_registry.domain.run_records import TRAINING_USER
from everloop_registry.domain.tracking import Experiment, Run, TrackingLimits, to_millis
from everloop_registry.errors import ByHandRefused, Conflict, ExperimentNotFound, RunNotFound, TooManyLogged
from everloop_registry.handlers.command_context import command_context
from everloop_registry.handlers.notes import check_own_tag
from everloop_registry.ports import TrackingStore
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import DataSetInput, Metric, ModelLink, RunChange, RunLoggedData, RunStatus
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor
from everloop_shared.random_ids import random_id

RUN_NAME = "mlflow.runName"
"""The tag in which MLflow's clients have a run's name a second time."""


@dataclass(frozen=True)
class NewRun:
    """A run as a client asks for it."""

    experiment: str
    name: str = ""
    user: str = ""
    started_ms: int | None = None
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Logged:
    """What a client logs about a run at once."""

    parameters: Sequence[tuple[str, str]] = ()
    metrics: Sequence[Metric] = ()
    tags: Mapping[str, str] = field(default_factory=dict)
    inputs: Sequence[DataSetInput] = ()
    models: Sequence[ModelLink] = ()


@dataclass
class RunHandlers:
    """One method per command; each returns the events to publish, and is idempotent but for creating."""

    store: TrackingStore
    clock: Clock
    limits: TrackingLimits = field(default_factory=TrackingLimits)

    async def create(self, new: NewRun, *, actor: Actor) -> list[Event]:
        """A new run in an active experiment."""
        experiment = await self._active_experiment(new.experiment)
        if new.user.startswith("everloop/"):
            raise ByHandRefused("user_id: names that begin with 'everloop/' are Everloop's own")
        for key in new.tags:
            check_own_tag(key)
        if await self.store.count_runs(experiment.id) >= self.limits.runs:
            raise TooManyLogged(
                f"experiment {experiment.name!r} has {self.limits.runs:,} runs, the limit "
                "(EVERLOOP_REGISTRY_MAX_RUNS); log into another one"
            )
        now, run = self.clock(), random_id().replace("-", "")
        name = new.name or new.tags.get(RUN_NAME) or f"run-{run[:8]}"
        change = RunChange(
            id=run,
            experiment=experiment.id,
            name=name,
            user=new.user,
            status="RUNNING",
            started_ms=to_millis(now) if new.started_ms is None else new.started_ms,
            tags={**new.tags, RUN_NAME: name},
        )
        return [await self._append(experiment, change, actor)]

    async def update(
        self, run: str, status: RunStatus | None, ended_ms: int | None, name: str | None, *, actor: Actor
    ) -> list[Event]:
        """Set the state of a run, or its name."""
        known, experiment = await self._own(run)
        tags = {RUN_NAME: name} if name else {}
        given = {"status": status, "ended_ms": ended_ms, "name": name or None}
        change = RunChange.model_validate({"id": known.id, "experiment": experiment.id, "tags": tags, **given})
        return [await self._append(experiment, change, actor)]

    async def set_stage(self, run: str, *, deleted: bool, actor: Actor) -> list[Event]:
        """Delete or restore a run; what was logged about it is kept."""
        known, experiment = await self._own(run)
        if (known.stage == "deleted") == deleted:
            return []
        change = RunChange(id=known.id, experiment=experiment.id, stage="deleted" if deleted else "active")
        return [await self._append(experiment, change, actor)]

    async def log(self, run: str, logged: Logged, *, actor: Actor) -> list[Event]:
        """Add parameters, metrics, tags and inputs to an active run."""
        known, experiment = await self._active(run)
        for key in logged.tags:
            check_own_tag(key)
        await self._check_parameters(known, logged.parameters)
        await self._check_limits(known, logged)
        name = logged.tags.get(RUN_NAME)
        change = RunChange(
            id=known.id,
            experiment=experiment.id,
            name=name or None,
            parameters=dict(logged.parameters),
            metrics=tuple(logged.metrics),
            tags=dict(logged.tags),
            inputs=tuple(logged.inputs),
            models=tuple(logged.models),
        )
        return [await self._append(experiment, change, actor)]

    async def delete_tag(self, run: str, key: str, *, actor: Actor) -> list[Event]:
        """Delete a tag of an active run."""
        check_own_tag(key)
        known, experiment = await self._active(run)
        if key not in await self.store.run_tags(known.id):
            raise RunNotFound(f"No tag with name: {key} in run with id {run}")
        change = RunChange(id=known.id, experiment=experiment.id, deleted_tags=(key,))
        return [await self._append(experiment, change, actor)]

    async def _check_parameters(self, run: Run, sent: Sequence[tuple[str, str]]) -> None:
        """A parameter has one value for ever: raises Conflict where it is logged with another one."""
        known = await self.store.parameters(run.id) if sent else {}
        for key, value in sent:
            if known.setdefault(key, value) != value:
                raise Conflict(
                    f"Changing param values is not allowed. Param with key={key!r} was already logged with value="
                    f"{known[key][:200]!r} for run ID={run.id!r}. Attempted logging new value {value[:200]!r}."
                )
        if len(known) > self.limits.parameters:
            raise TooManyLogged(
                f"run {run.id} would have {len(known):,} parameters; {self.limits.parameters:,} are the limit "
                "(EVERLOOP_REGISTRY_MAX_RUN_PARAMETERS)"
            )

    async def _check_limits(self, run: Run, logged: Logged) -> None:
        count = run.logged + len(logged.metrics)
        if logged.metrics and count > self.limits.metrics:
            raise TooManyLogged(
                f"{count:,} metric values would be logged for run {run.id}; {self.limits.metrics:,} are the limit "
                "(EVERLOOP_REGISTRY_MAX_RUN_METRICS); log fewer steps"
            )
        tags = {*await self.store.run_tags(run.id), *logged.tags} if logged.tags else ()
        if len(tags) > self.limits.parameters:
            raise TooManyLogged(
                f"run {run.id} would have {len(tags):,} tags; {self.limits.parameters:,} are the limit "
                "(EVERLOOP_REGISTRY_MAX_RUN_PARAMETERS)"
            )

    async def _active_experiment(self, experiment: str) -> Experiment:
        if (known := await self.store.experiment(experiment)) is None:
            raise ExperimentNotFound(f"No Experiment with id={experiment} exists")
        if known.stage == "deleted":
            raise Conflict(f"The experiment {known.id} must be in the 'active' state. Current state is deleted.")
        return known

    async def _active(self, run: str) -> tuple[Run, Experiment]:
        known, experiment = await self._find(run)
        if known.stage == "deleted":
            raise Conflict(f"The run {run} must be in the 'active' state. Current state is deleted.")
        return known, experiment

    async def _own(self, run: str) -> tuple[Run, Experiment]:
        known, experiment = await self._find(run)
        if known.user == TRAINING_USER:
            raise ByHandRefused(
                f"run {run} is one of Everloop's own: training says when it ends, and it stays, as versions name it"
            )
        return known, experiment

    async def _find(self, run: str) -> tuple[Run, Experiment]:
        known = await self.store.run(run)
        experiment = None if known is None else await self.store.experiment(known.experiment)
        if known is None or experiment is None:
            raise RunNotFound(f"Run with id={run} not found")
        return known, experiment

    async def _append(self, experiment: Experiment, change: RunChange, actor: Actor) -> Event:
        context = command_context(self.clock, actor)
        return await self.store.append(experiment.key, change.id, RunLoggedData(run=change), context)
