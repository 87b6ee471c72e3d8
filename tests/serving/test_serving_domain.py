"""The pure rules of serving: split, fallbacks, what is remembered."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from itertools import count
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.builders.events import prediction_made
from tests.builders.loops import loop_spec

from everloop_features import compile_features
from everloop_features.observation_decoder import compile_decoder
from everloop_learning.split import assign, hash_to_fraction
from everloop_models import ModelPrediction
from everloop_schemas.envelope import Fields, utc_time
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.entity_states import EntityStates
from everloop_serving.domain.label_counts import BaselineVersion, LabelCounts
from everloop_serving.domain.predict import PredictionRequest, PredictionResult, predict
from everloop_serving.domain.recent import RecentPredictions
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import VersionFailed

SPEC = loop_spec()
DECODER = compile_decoder(SPEC)


@dataclass
class Scripted:
    """A version that returns or raises what the test says."""

    version: str
    result: ModelPrediction | Exception
    calls: list[Fields] = field(default_factory=list)

    def predict(self, features: Fields) -> ModelPrediction:
        """As scripted."""
        self.calls.append(features)
        if isinstance(self.result, Exception):
            raise self.result
        return self.result

    def explain(self, features: Fields, prediction: ModelPrediction, seed: str, seconds: float) -> None:
        """Nothing is explained here."""


YES = ModelPrediction(True, {"true": 0.9, "false": 0.1})
NAN = ModelPrediction(True, {"true": float("nan"), "false": 0.1})


def served(champion: Scripted, candidate: Scripted | None = None, share: float = 0.0) -> ServedLoop:
    """A loop with these versions."""
    zero = BaselineVersion(SPEC, LabelCounts())
    return ServedLoop("market", 1, SPEC, compile_features(SPEC), zero, champion, candidate, share, decoder=DECODER)


def predict_once(loop: ServedLoop, prediction_id: str = "p", version: str | None = None) -> PredictionResult:
    """One prediction, timed by a clock that ticks at each reading."""
    request = PredictionRequest(
        prediction_id, "default", {"price": 1.0}, utc_time(0), "cause", None, "rest", version=version
    )
    ticks = count()
    return predict(loop, request, lambda: float(next(ticks)))


def made(prediction_id: str, version: str = "0") -> PredictionMade:
    """A prediction whose event has the id of the prediction."""
    return prediction_made(prediction_id, id=prediction_id, version=version, entity="e", features={})


def test_the_split_never_changes() -> None:
    units = ["order-1", "order-2", "ä/ö"]

    fractions = [hash_to_fraction("market", unit) for unit in units]

    assert fractions == pytest.approx([0.6373, 0.5565, 0.0479], abs=1e-4)


@settings(max_examples=20)
@given(st.floats(0.01, 0.99), st.text(max_size=10))
def test_the_share_is_kept_within_five_standard_errors(share: float, prefix: str) -> None:
    n = 2_000

    assignments = [assign("market", f"{prefix}{i}", share) for i in range(n)]

    error = 5 * (share * (1 - share) / n) ** 0.5 + 1 / n
    assert abs(fmean(a.canary for a in assignments) - share) < error
    assert {a.propensity for a in assignments if a.canary} <= {share}
    assert {a.propensity for a in assignments if not a.canary} <= {1 - share}


def test_a_rising_share_takes_no_unit_back() -> None:
    before = {i for i in range(500) if assign("market", str(i), 0.1).canary}

    after = {i for i in range(500) if assign("market", str(i), 0.5).canary}

    assert before < after


def test_champion_and_candidate_both_predict_and_only_one_serves() -> None:
    champion, candidate = Scripted("a@1", YES), Scripted("b@1", ModelPrediction(False, None))

    shadowing, canary = (
        predict_once(served(champion, candidate)),
        predict_once(served(champion, candidate, share=1 - 1e-9)),
    )

    assert (shadowing.version, shadowing.role, shadowing.propensity) == ("a@1", "champion", 1.0)
    assert [s.version for s in shadowing.shadows] == ["b@1"]
    assert (canary.version, canary.role, canary.prediction.value) == ("b@1", "canary", False)
    assert [s.version for s in canary.shadows] == ["a@1"]
    assert shadowing.latency_ms == 1000.0


@pytest.mark.parametrize("failure", [RuntimeError("boom"), NAN], ids=["raises", "not finite"])
def test_a_failing_canary_gives_way_to_the_champion(failure: ModelPrediction | Exception) -> None:
    champion, candidate = Scripted("a@1", YES), Scripted("b@1", failure)

    result = predict_once(served(champion, candidate, share=1 - 1e-9))

    assert (result.version, result.role, result.propensity) == ("a@1", "champion", 1.0)
    assert [version for version, _ in result.failures] == ["b@1"]
    assert len(candidate.calls) == 1


@pytest.mark.parametrize("failure", [RuntimeError("boom"), NAN], ids=["raises", "not finite"])
@pytest.mark.parametrize("version", ["a@1", "b@1"])
def test_a_version_that_was_asked_for_gives_way_to_none(version: str, failure: ModelPrediction | Exception) -> None:
    versions = {name: Scripted(name, failure if name == version else YES) for name in ("a@1", "b@1")}
    loop = served(versions["a@1"], versions["b@1"], share=0.5)

    with pytest.raises(VersionFailed, match=version) as failed:
        predict_once(loop, version=version)

    assert failed.value.version == version
    [other] = versions.keys() - {version}
    assert (predict_once(loop, version=other).version, versions[other].calls) == (other, [{"price": 1.0}])


def test_a_failing_champion_gives_way_to_version_zero_and_a_failing_shadow_costs_nothing() -> None:
    broken, shadow = Scripted("a@1", RuntimeError("boom")), Scripted("b@1", NAN)

    alone, watched = predict_once(served(broken)), predict_once(served(Scripted("a@2", YES), shadow))

    assert (alone.version, alone.role, alone.prediction.value) == ("0", "baseline", False)
    assert (watched.version, watched.shadows, watched.failures[0].version) == ("a@2", (), "b@1")
    assert watched.propensity == 1.0


def test_only_the_latest_predictions_are_remembered_and_the_first_on_the_topic_counts() -> None:
    recent = RecentPredictions(3)
    recent.add(made("own", "new"), durable=False)

    recent.add_published(
        [
            made("a"),
            made("b", "first"),
            made("b", "second"),
            made("own", "old"),
        ]
    )
    recent.add(made("c"), durable=True)

    assert len(recent) == 3
    assert recent.get("market", "a") is None
    known = {i: recent.get("market", i) for i in ("b", "own", "c")}
    assert {i: (k.event.data.version, k.durable) for i, k in known.items() if k} == {
        "b": ("first", True),
        "own": ("old", True),
        "c": ("0", True),
    }


def test_the_published_state_of_an_entity_counts_unless_our_own_requests_are_ahead_of_it() -> None:
    entities, now = EntityStates(2), utc_time(1000)
    entities.apply_published("market", "e", {"n": 5}, 5, now)
    entities.apply_own("market", "e", {"n": 6}, now)

    entities.apply_published("market", "e", {"n": 50}, 5, now)
    ahead = entities.get("market", "e")
    entities.apply_published("market", "e", {"n": 60}, 6, now)
    caught_up = entities.get("market", "e")
    entities.apply_own("market", "e", {"n": 7}, now)
    entities.apply_published("market", "e", {"n": 1}, 1, now + timedelta(seconds=61))
    reset = entities.get("market", "e")

    assert [view and view.state["n"] for view in (ahead, caught_up, reset)] == [6, 60, 1]


@pytest.mark.parametrize("failure", [RuntimeError("boom"), NAN, RecursionError()], ids=["raises", "nan", "deep"])
def test_where_even_version_0_fails_the_initial_prediction_is_the_answer(
    failure: ModelPrediction | Exception,
) -> None:
    zero = Scripted("0", failure)
    broken = ServedLoop("market", 1, SPEC, compile_features(SPEC), zero, zero, decoder=DECODER)

    answered = predict_once(broken)

    assert (answered.prediction.value, answered.version, answered.role) == (False, "0", "baseline")
    assert [version for version, _ in answered.failures] == ["0"]


def test_large_entity_states_are_evicted_by_their_bytes() -> None:
    states = EntityStates(1_000, limit_bytes=1_000_000)

    for n in range(100):
        states.apply_published("market", f"e{n}", {"ring": [float(n)]}, 1, utc_time(0), size=50_000)
        states.apply_own("market", f"e{n}", {"ring": [float(n)]}, utc_time(0), size=10_000)
        assert states.bytes <= 1_000_000

    assert len(states) == 3


def test_large_predictions_are_evicted_by_their_bytes() -> None:
    recent = RecentPredictions(1_000, limit_bytes=1_000_000)
    large = {"text": "x" * 90_000}

    for n in range(50):
        event = made(f"p{n}")
        recent.add(event.copy_with(data=replace(event.data, features=large)), durable=True)
        assert recent.bytes <= 1_000_000

    assert len(recent) == 11
    assert recent.get("market", "p49") is not None
