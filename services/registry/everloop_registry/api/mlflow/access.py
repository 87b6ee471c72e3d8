"""For which loops a request of MLflow's clients needs a role: those that what it names belongs to, else all."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from everloop_registry.domain.artifact_paths import VERSIONS, ArtifactPath
from everloop_registry.domain.tracking import experiment_id
from everloop_registry.ports import LoopFinder
from everloop_schemas.access.routes import RULES
from everloop_shared.access.identity import current_identity

ACTIONS: Mapping[tuple[str, str], str] = {(rule.method, rule.path): rule.action for rule in RULES["registry"]}
"""The action of each route, by method and path."""
Kind = Literal["loop", "experiment", "experiment named", "run", "logged model", "versions of run"]


class Named(NamedTuple):
    """Something that a request names, which belongs to a loop, to several, or to none."""

    kind: Kind
    id: str


class LoopAccess:
    """Checks the caller's roles once a request has been read; the guard has checked that there is one for some loop.

    What is not there is refused as what belongs to another loop is, and in the same words: who may not see it learns
    nothing of it.
    """

    def __init__(self, finder: LoopFinder) -> None:
        self._finder = finder

    async def require(self, action: str, named: Iterable[Named]) -> None:
        """Raises NotPermitted unless the action is permitted for the loop of each, for all where nothing is named."""
        asks = current_identity()
        if asks.may_everywhere(action):
            return
        things = list(named)
        if not things:
            raise asks.refusal(action, "for all loops, which a request takes that names nothing of a loop")
        for thing in things:
            loops = await self._loops_of(thing)
            belongs_to_none = not loops and thing.kind != "versions of run"  # the run is named, too
            if belongs_to_none or not all(asks.may(action, loop) for loop in loops):
                raise asks.refusal(action, f"for {thing.kind} {thing.id[:200]}")

    async def permitted(self, action: str) -> frozenset[str] | None:
        """The loops, deleted ones too, for which the action is permitted; None for all."""
        asks = current_identity()
        if asks.may_everywhere(action):
            return None
        return frozenset(loop for loop in await self._finder.loops() if asks.may(action, loop))

    async def _loops_of(self, thing: Named) -> list[str]:
        match thing.kind:
            case "loop":
                return [thing.id]
            case "experiment":
                found = await self._finder.of_experiment(thing.id)
            case "experiment named":
                found = await self._finder.of_experiment_named(thing.id)
            case "run":
                found = await self._finder.of_run(thing.id)
            case "logged model":
                found = await self._finder.of_logged_model(thing.id)
            case "versions of run":
                return await self._finder.of_versions(thing.id)
        return [found] if found else []


def named_by(found: ArtifactPath) -> list[Named]:
    """What the files at a path below `mlflow-artifacts:/` belong to."""
    if found.kind == "versions":
        return [Named("loop", found.owner)]
    if found.kind == "logged-models":
        return [Named("logged model", found.owner)]
    run = Named("run", found.owner)
    return [run, Named("versions of run", found.owner)] if found.rest[:1] == (VERSIONS,) else [run]


def permitted_experiments(asked: Sequence[str], among: frozenset[str] | None) -> Sequence[str]:
    """Those of the experiments, by id, that belong to one of these loops; all of them for None."""
    if among is None:
        return asked
    permitted = {experiment_id(loop) for loop in among}
    return [experiment for experiment in asked if experiment in permitted]
