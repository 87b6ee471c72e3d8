"""What the registry does about the commands of MLflow's clients on experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from everloop_registry.domain.tracking import (
    DEFAULT_EXPERIMENT,
    Experiment,
    TrackingLimits,
    experiment_id,
    tracking_key,
)
from everloop_registry.errors import Conflict, ExperimentExists, ExperimentNotFound, TooManyLogged
from everloop_registry.handlers.command_context import command_context
from everloop_registry.handlers.notes import check_own_tag
from everloop_registry.ports import TrackingStore
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import ExperimentChange, RunLoggedData
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor


@dataclass
class ExperimentHandlers:
    """One method per command; each returns the events to publish, and is idempotent but for creating."""

    store: TrackingStore
    clock: Clock
    limits: TrackingLimits = field(default_factory=TrackingLimits)

    async def create(self, name: str, location: str | None, tags: Mapping[str, str], *, actor: Actor) -> list[Event]:
        """A new experiment of one's own; raises ExperimentExists or TooManyLogged."""
        if (known := await self.store.experiment_named(name)) is not None:
            how = "it is deleted; restore it, or choose another name" if known.stage == "deleted" else "it exists"
            raise ExperimentExists(f"Experiment {name!r}: {how}")
        if (count := await self.store.count_experiments()) >= self.limits.experiments:
            raise TooManyLogged(
                f"there are {count:,} experiments, the limit (EVERLOOP_REGISTRY_MAX_EXPERIMENTS); log into one of them"
            )
        number = await self._free_id(name)
        change = ExperimentChange(id=number, name=name, artifact_location=location or None, tags=dict(tags))
        return [await self._append(tracking_key(name, number), change, actor)]

    async def rename(self, experiment: str, name: str, *, actor: Actor) -> list[Event]:
        """Rename an experiment of one's own; raises ExperimentExists."""
        known = await self._own(experiment)
        if known.name == name:
            return []
        if await self.store.experiment_named(name) is not None:
            raise ExperimentExists(f"Experiment {name!r} exists already; choose another name")
        return [await self._append(known.key, ExperimentChange(id=known.id, name=name), actor)]

    async def set_stage(self, experiment: str, *, deleted: bool, actor: Actor) -> list[Event]:
        """Delete or restore an experiment of one's own; its runs are kept."""
        known = await self._own(experiment)
        if (known.stage == "deleted") == deleted:
            return []
        change = ExperimentChange(id=known.id, stage="deleted" if deleted else "active")
        return [await self._append(known.key, change, actor)]

    async def set_tag(self, experiment: str, key: str, value: str, *, actor: Actor) -> list[Event]:
        """Set a tag of any experiment."""
        check_own_tag(key)
        known = await self._find(experiment)
        return [await self._append(known.key, ExperimentChange(id=known.id, tags={key: value}), actor)]

    async def delete_tag(self, experiment: str, key: str, *, actor: Actor) -> list[Event]:
        """Delete a tag of any experiment."""
        check_own_tag(key)
        known = await self._find(experiment)
        return [await self._append(known.key, ExperimentChange(id=known.id, deleted_tags=(key,)), actor)]

    async def _free_id(self, name: str) -> str:
        taken = 0
        while await self.store.experiment(number := experiment_id(name, taken)) is not None:
            taken += 1
        return number

    async def _own(self, experiment: str) -> Experiment:
        """An experiment that is neither a loop's nor the default one."""
        known = await self._find(experiment)
        if known.id == DEFAULT_EXPERIMENT:
            raise Conflict("the default experiment keeps its name, and is not deleted: runs that name none go there")
        if await self.store.is_loop(known.name):
            raise Conflict(
                f"experiment {known.name!r} is the loop of this name: it keeps its name, and is deleted with the loop "
                f"(everloop delete {known.name})"
            )
        return known

    async def _find(self, experiment: str) -> Experiment:
        if (known := await self.store.experiment(experiment)) is None:
            raise ExperimentNotFound(f"No Experiment with id={experiment} exists")
        return known

    async def _append(self, key: str, change: ExperimentChange, actor: Actor) -> Event:
        context = command_context(self.clock, actor)
        return await self.store.append(key, change.id, RunLoggedData(experiment=change), context)
