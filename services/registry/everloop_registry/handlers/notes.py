"""What people write about registered models and model versions: descriptions and tags; and what they may not change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from everloop_registry.domain.tracking import TAG_PREFIX
from everloop_registry.errors import ByHandRefused, LoopNotApplied, VersionNotFound
from everloop_registry.handlers.command_context import command_context
from everloop_registry.ports import TrackingStore
from everloop_schemas.envelope import Event
from everloop_schemas.tracking import NoteChange, RunLoggedData
from everloop_shared.clock import Clock
from everloop_shared.commands import Actor


@dataclass
class NoteHandlers:
    """One method per command; each is idempotent and returns the event to publish."""

    store: TrackingStore
    clock: Clock

    async def describe(self, loop: str, number: int | None, text: str, *, actor: Actor) -> list[Event]:
        """Set the description of a model, or of a version by its number."""
        return await self._append(loop, NoteChange(number=number, description=text), actor)

    async def set_tags(self, loop: str, number: int | None, tags: Mapping[str, str], *, actor: Actor) -> list[Event]:
        """Set tags of a model or a version."""
        for key in tags:
            check_own_tag(key)
        return await self._append(loop, NoteChange(number=number, tags=dict(tags)), actor)

    async def delete_tag(self, loop: str, number: int | None, key: str, *, actor: Actor) -> list[Event]:
        """Delete a tag of a model or a version; nothing where there is none."""
        check_own_tag(key)
        return await self._append(loop, NoteChange(number=number, deleted_tags=(key,)), actor)

    async def _append(self, loop: str, change: NoteChange, actor: Actor) -> list[Event]:
        if not await self.store.has_living_loop(loop):
            raise LoopNotApplied(loop)
        if change.number is not None and not await self.store.has_version(loop, change.number):
            raise VersionNotFound(f"Model Version (name={loop}, version={change.number}) not found")
        context = command_context(self.clock, actor)
        subject = loop if change.number is None else f"{loop}/{change.number}"
        return [await self.store.append(loop, subject, RunLoggedData(note=change), context)]


def check_own_tag(key: str) -> None:
    """Raises ByHandRefused for a tag that the registry writes itself."""
    if key.startswith(TAG_PREFIX):
        raise ByHandRefused(
            f"tags that begin with {TAG_PREFIX!r} are written by Everloop; choose another name than {key!r}"
        )
