"""What training does with the events of searches, and with a person's request for one."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import uuid4

from everloop_learning.loops import KnownLoops
from everloop_schemas.envelope import Event
from everloop_schemas.registry import LoopState
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_shared.clock import Clock, system_clock
from everloop_shared.commands import Actor
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position
from everloop_training.domain.known_search import KnownSearch, searched_models
from everloop_training.domain.run_quota import Requested, RunQuota
from everloop_training.domain.search_reply import MIN_OUTCOMES
from everloop_training.errors import NothingToSearch, OutcomesNotLearned, TooFewOutcomes
from everloop_training.ports import Learners, SearchLog


@dataclass
class SearchHandlers:
    """Knows the searches of all loops, and requests one more for a person."""

    loops: KnownLoops
    searches: SearchLog
    learners: Learners
    clock: Clock = system_clock
    quota: RunQuota = field(default_factory=lambda: RunQuota(20, "searches"))

    def on_loop_state(self, event: LoopState) -> None:
        """A loop has changed; the searches of one that was deleted are forgotten."""
        if event.data.deleted and self.loops.get(event.loop) is None:
            self.searches.forget(event.loop)

    async def on_search_requested(self, event: SearchRequested, at: Position) -> list[Event]:
        """A search is on the log."""
        self.searches.add_requested(event)
        self.quota.add(event.team, event.data.search, event.time, self.clock())
        return []

    async def on_trial_finished(self, event: TrialFinished, at: Position) -> list[Event]:
        """A trial is on the log; done again after a restart, it is not published again."""
        self.searches.add_trial(event)
        return []

    async def on_search_finished(self, event: SearchFinished, at: Position) -> list[Event]:
        """The end of a search is on the log."""
        self.searches.add_finished(event)
        return []

    async def request_search(
        self, loop: str, model: int, reason: str, key: str | None, *, actor: Actor
    ) -> list[SearchRequested]:
        """A person requests a search of a model, the same one under the same `key`.

        Raises LoopNotFound, NothingToSearch, TooFewOutcomes, TooManyRuns, Unavailable.
        """
        known = [search.requested for search in self.searches_of(loop)]
        key = key or str(uuid4())
        if found := next((search for search in known if search.data.key == f"manual/{key}"), None):
            return [found]
        self._check_searched(loop, model)
        recent = [Requested(s.data.key, s.time) for s in known if s.data.key.startswith("manual/")]
        with self.quota.admit(loop, f"manual/{key}", recent, self.clock(), actor.team):
            reply = await self.learners.request_search(loop, model, key, reason)
            if reply.search:  # at once: the record takes a while to come back
                self.quota.add(actor.team, reply.search.data.search, reply.search.time, self.clock())
        if reply.behind:
            raise OutcomesNotLearned(f"the outcomes of {loop} are being learned again")
        if reply.search is None:
            raise TooFewOutcomes(f"{loop} has fewer than {MIN_OUTCOMES} outcomes; request a search when it has")
        return [self.searches.add_requested(reply.search.copy_with(**actor.as_fields(), team=actor.team))]

    def searches_of(self, loop: str) -> list[KnownSearch]:
        """The searches of a loop's lifetime, oldest first; raises LoopNotFound."""
        life = self.loops.require(loop).data.life
        return [search for search in self.searches.of(loop) if search.requested.revision >= life]

    def _check_searched(self, loop: str, model: int) -> None:
        spec = self.loops.require(loop).data.spec
        if spec.search is None:
            fix = "add one to the loop's file, such as search: {space: {models.0.max_depth: [3, 10]}}, and apply it"
            raise NothingToSearch(f"the file of {loop} has no search; {fix}")
        searched = searched_models(spec.search, len(spec.models))
        if model not in searched:
            names = " and ".join(f"models.{i}" for i in searched)
            error = f"must be a model that the search of the loop's file names; it names {names}"
            raise NothingToSearch(f"models.{model} of {loop} is not searched", [FieldError("model", error)])
