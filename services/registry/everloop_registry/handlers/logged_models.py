"""What the registry does about the commands of MLflow's clients on logged models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from everloop_registry.domain.tracking import LoggedModel, TrackingLimits
from everloop_registry.errors import ExperimentNotFound, LoggedModelNotFound, RunNotFound, TooManyLogged
from everloop_registry.handlers.command_context import command_context
from everloop_registry.ports import TrackingStore
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import LoggedModelChange, ModelStatus, RunLoggedData
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor
from everloop_shared.random_ids import random_id


@dataclass
class LoggedModelHandlers:
    """One method per command; each returns the events to publish, and is idempotent but for creating."""

    store: TrackingStore
    clock: Clock
    limits: TrackingLimits = field(default_factory=TrackingLimits)

    async def create(self, new: LoggedModelChange, *, actor: Actor) -> list[Event]:
        """A new logged model; `new.id` is empty. Raises ExperimentNotFound, RunNotFound or TooManyLogged."""
        if (experiment := await self.store.experiment(new.experiment)) is None or experiment.stage == "deleted":
            raise ExperimentNotFound(f"No Experiment with id={new.experiment} exists")
        if new.run is not None and await self.store.run(new.run) is None:
            raise RunNotFound(f"Run with id={new.run} not found")
        if (count := await self.store.count_logged_models(new.experiment)) >= self.limits.models:
            raise TooManyLogged(f"experiment {experiment.name} has {count:,} logged models, the limit; use another one")
        model = f"m-{random_id().replace('-', '')}"
        change = new.model_copy(update={"id": model, "name": new.name or model})
        return [await self._append(experiment.key, change, actor)]

    async def set_status(self, model: str, status: ModelStatus, *, actor: Actor) -> list[Event]:
        """A logged model is ready, or its upload failed."""
        return await self._change(model, actor, status=status)

    async def set_tags(self, model: str, tags: Mapping[str, str], *, actor: Actor) -> list[Event]:
        """Set tags of a logged model."""
        return await self._change(model, actor, tags=dict(tags))

    async def delete_tag(self, model: str, key: str, *, actor: Actor) -> list[Event]:
        """Delete a tag of a logged model."""
        return await self._change(model, actor, deleted_tags=(key,))

    async def add_parameters(self, model: str, parameters: Mapping[str, str], *, actor: Actor) -> list[Event]:
        """Add parameters to a logged model."""
        return await self._change(model, actor, parameters=dict(parameters))

    async def delete(self, model: str, *, actor: Actor) -> list[Event]:
        """Delete a logged model; versions that were made from it stay."""
        return await self._change(model, actor, stage="deleted")

    async def _change(self, model: str, actor: Actor, **changes: object) -> list[Event]:
        known = await self._known(model)
        if (experiment := await self.store.experiment(known.experiment)) is None:
            raise ExperimentNotFound(f"No Experiment with id={known.experiment} exists")
        change = LoggedModelChange.model_validate({"id": model, "experiment": known.experiment, **changes})
        return [await self._append(experiment.key, change, actor)]

    async def _known(self, model: str) -> LoggedModel:
        if (known := await self.store.logged_model(model)) is None:
            raise LoggedModelNotFound(f"Logged model with ID {model!r} not found.")
        return known

    async def _append(self, key: str, change: LoggedModelChange, actor: Actor) -> Event:
        context = command_context(self.clock, actor)
        return await self.store.append(key, change.id, RunLoggedData(model=change), context)
