"""Builds the events of the tests of feature: the n-th observation is one second after the one before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tests.builders import events, loops

from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade, Shadow

START = datetime(2026, 1, 5, 12, tzinfo=UTC)
SHOP = "shop"


def at_second(seconds: float) -> datetime:
    """A moment of the tests' day."""
    return START + timedelta(seconds=seconds)


def spec(loop: str = SHOP, **changes: Any) -> LoopSpec:
    """A binary loop with a window, an expression and the last label."""
    body: dict[str, Any] = {
        "schema": {"price": {"type": "number", "missing": None}},
        "features": [{"fields": "all"}, {"name": "mean_3", "mean": "price", "over": "3 events"}],
        "label": {"within": "1h"},
    }
    return loops.loop_spec(**{"loop": loop, **body, **changes})


def loop_state(of: LoopSpec | None = None, revision: int = 1, sequence: int = 1) -> LoopState:
    """The state of the loop as the registry publishes it."""
    return loops.loop_state(of or spec(), revision=revision, sequence=sequence)


def event(n: int, price: float | None = 1.0, entity: str = "ada", loop: str = SHOP, **changes: Any) -> EventReceived:
    """The n-th observation."""
    moment = {"time": at_second(n), "received": at_second(n)}
    return events.observation(f"e{n}", {"price": price}, entity, **{"loop": loop, **moment, **changes})


def observation(n: int, price: float | None = 1.0, entity: str = "ada", loop: str = SHOP) -> ObservationReceived:
    """The n-th observation, which serving predicted from by REST."""
    return events.rest_observation(f"e{n}", {"price": price}, entity, loop=loop, time=at_second(n))


def prediction(
    n: int, answer: Scalar = True, entity: str = "ada", loop: str = SHOP, features: dict[str, Any] | None = None
) -> PredictionMade:
    """The prediction of the n-th observation."""
    return events.prediction_made(
        f"e{n}",
        answer,
        id=f"p{n}",
        time=at_second(n + 0.1),
        loop=loop,
        causationid=f"e{n}",
        entity=entity,
        features=features or {"price": float(n)},
        probabilities={"false": 0.2, "true": 0.8},
        version="logistic-0@5",
        role="champion",
        propensity=0.75,
        observed=at_second(n),
        shadows=(Shadow(version="forest-0@5", prediction=False),),
    )


def label(
    n: int, value: Scalar | None = True, id: str | None = None, after: float = 60, loop: str = SHOP, **data: Any
) -> LabelReceived:
    """The label of the n-th observation, `after` seconds later; `kind="feedback"` and `correct` as data."""
    moment = {"time": at_second(n + after), "received": at_second(n + 61)}
    return events.label_received(f"e{n}", value, **{"id": id or f"l{n}", "loop": loop, **moment, **data})
