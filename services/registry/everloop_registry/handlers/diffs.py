"""What the registry would decide if a loop file was applied."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_registry.domain.spec_diff import LoopDiff, compare_specs
from everloop_registry.handlers.commands import CommandHandlers
from everloop_schemas.loop import LoopSpec
from everloop_shared.commands import Actor


@dataclass
class DiffHandlers:
    """Compares within a unit of work, into which it writes nothing."""

    commands: CommandHandlers

    async def diff(self, spec: LoopSpec, *, actor: Actor) -> LoopDiff:
        """What applying a checked spec would do; raises as `CommandHandlers.admit`."""
        admitted = await self.commands.admit(spec, actor=actor)
        loop = admitted.existing
        known = [] if loop is None else await self.commands.store.spec_lines(loop.loop, loop.life)
        return compare_specs(loop, admitted.spec, known)
