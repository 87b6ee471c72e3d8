"""The versions that serve a loop, chosen from those in memory by the loop's state."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from everloop_features import FeaturePlan, compile_features
from everloop_features.observation_decoder import ObservationDecoder, compile_decoder
from everloop_learning.split import role_of
from everloop_learning.version import line_of
from everloop_models import ModelPrediction
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState
from everloop_schemas.serving import Explanation, Role
from everloop_serving.domain.inference_outputs import TensorMetadata, describe_outputs
from everloop_serving.domain.inference_plans import InferencePlans
from everloop_serving.errors import NAME_LENGTH, VersionNotFound
from everloop_shared.errors import listed


class Predictor(Protocol):
    """A version in memory. `predict` is fast and blocks; it may raise, or return values that are not finite."""

    @property
    def version(self) -> str: ...
    def predict(self, features: Fields) -> ModelPrediction: ...
    def explain(self, features: Fields, prediction: ModelPrediction, seed: str, seconds: float) -> Explanation | None:
        """What each feature contributed to its prediction, found within about `seconds`; never raises."""


class Anomalies(Protocol):
    """Says how unusual observations are, and learns each one. Fast; never raises."""

    @property
    def names(self) -> Sequence[str]:
        """The features that it knows."""

    def score(self, features: Fields) -> float | None:
        """From 0, usual, to 1; None before enough observations were learned."""


@dataclass(frozen=True)
class ServedLoop:
    """A loop with the versions that predict for it now; replaced as a whole, by one assignment.

    `share` is 0 unless the candidate is in memory. `loading` says that the champion has never been in memory in this
    process: the stream waits for it, a request does not. `life` is the revision with which the loop's present lifetime
    began. `anomalies` is None where the loop asks for no scores of anomalies.
    """

    loop: str
    revision: int
    spec: LoopSpec
    plan: FeaturePlan
    baseline: Predictor
    champion: Predictor
    candidate: Predictor | None = None
    share: float = 0.0
    loading: bool = False
    life: int = 1
    anomalies: Anomalies | None = field(default=None, compare=False)
    decoder: ObservationDecoder = field(kw_only=True)
    plans: InferencePlans = field(kw_only=True, default_factory=InferencePlans, compare=False)

    @cached_property
    def is_personal(self) -> bool:
        """Whether it has personal fields, which are sealed wherever they are stored."""
        return bool(self.spec.personal_fields)

    @cached_property
    def outputs(self) -> Mapping[str, TensorMetadata]:
        """The outputs by name, in their order."""
        return describe_outputs(self.spec)

    @cached_property
    def adapted_fields(self) -> frozenset[str]:
        """The fields whose values in a float tensor may stand for others: whole numbers for integers, NaN for none."""
        fields = self.spec.fields.items()
        return frozenset(name for name, field in fields if field.type == "integer" or field.missing == "null")

    @cached_property
    def orders(self) -> tuple[tuple[tuple[Predictor, Role], ...], tuple[tuple[Predictor, Role], ...]]:
        """The versions in the order in which they are asked, with their roles: without the canary, and with it."""
        order = [self.champion] if self.champion is self.baseline else [self.champion, self.baseline]
        usual = tuple((each, role_of(each.version, canary=False)) for each in order)
        return usual, (((self.candidate, "canary"), *usual) if self.candidate else usual)

    @property
    def versions(self) -> list[str]:
        """The versions that predict now, by name: the champion and, in a rollout, the candidate."""
        return [self.champion.version, *([self.candidate.version] if self.candidate else [])]

    def find_version(self, version: str) -> Predictor | None:
        """The version of this name, if it can predict now."""
        return next((each for each, _ in self.orders[True] if each.version == version), None)

    def require_version(self, version: str | None) -> None:
        """Raises VersionNotFound for a version that does not predict now."""
        if version is not None and version not in self.versions:
            raise VersionNotFound(
                f"{self.loop} has no version {version[:NAME_LENGTH]!r} that serves now; these do: "
                f"{listed(self.versions)}"
            )


@dataclass(frozen=True)
class VersionsInMemory:
    """The versions of one loop: those loaded, by name, and whether one could not be loaded."""

    find: Callable[[str], Predictor | None]
    has_failed: Callable[[str], bool]


def live_versions(state: LoopState) -> list[LiveVersion]:
    """The versions that a state names: the champion and, in a rollout, the candidate."""
    return [state.data.champion, *([state.data.candidate] if state.data.candidate else [])]


def choose_versions(
    state: LoopState, versions: VersionsInMemory, baseline: Predictor, before: ServedLoop | None
) -> ServedLoop:
    """The loop as it is served from now on. A version that is not in memory yet leaves the one before in its place."""
    champion, loading = _choose_champion(state, versions, baseline, before)
    candidate = _choose_candidate(state, versions, before)
    if candidate is not None and candidate.version == champion.version:
        candidate = None
    same = before if before is not None and before.spec == state.data.spec else None
    plan = same.plan if same else compile_features(state.data.spec)
    return ServedLoop(
        loop=state.loop,
        revision=state.revision,
        spec=state.data.spec,
        plan=plan,
        baseline=baseline,
        champion=champion,
        candidate=candidate,
        share=state.data.share if candidate else 0.0,
        loading=loading,
        life=state.data.life,
        anomalies=_choose_anomalies(state, plan, before),
        decoder=same.decoder if same else compile_decoder(state.data.spec),
        plans=same.plans if same else InferencePlans(),
    )


def _choose_anomalies(state: LoopState, plan: FeaturePlan, before: ServedLoop | None) -> Anomalies | None:
    """What scores the loop's observations, as it has learned so far unless its features or its lifetime are others."""
    if not state.data.spec.monitor.anomalies:
        return None
    if before is not None and before.anomalies is not None and before.life == state.data.life:
        if tuple(before.anomalies.names) == tuple(plan.names):
            return before.anomalies
    # Imported here, as few loops ask for it, and serving starts without River where no model needs it.
    from everloop_models.formats.river.anomalies import AnomalyScores

    return AnomalyScores(plan.names)


def _choose_champion(
    state: LoopState, versions: VersionsInMemory, baseline: Predictor, before: ServedLoop | None
) -> tuple[Predictor, bool]:
    """The version that serves, and whether the stream should wait for the one that the state names."""
    version = state.data.champion.version
    if version == BASELINE:
        return baseline, False
    if found := versions.find(version):
        return found, False
    if before and before.champion.version != BASELINE:
        return before.champion, False
    first_champion = before is None or before.loading
    return baseline, first_champion and not versions.has_failed(version)


def _choose_candidate(state: LoopState, versions: VersionsInMemory, before: ServedLoop | None) -> Predictor | None:
    """The candidate if it is in memory; until a refresh of it is, the version before it, of the same line."""
    named = state.data.candidate
    if named is None:
        return None
    if found := versions.find(named.version):
        return found
    old = before.candidate if before else None
    return old if old and line_of(old.version) == line_of(named.version) else None
