"""Builds the events of the tests of feature, with fixed times and ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from everloop_schemas.envelope import Scalar
from everloop_schemas.ingest import EventReceived, EventReceivedData, LabelReceived, LabelReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion, LoopState, LoopStateData
from everloop_schemas.serving import ObservationReceived, PredictionMade, PredictionMadeData, Shadow

START = datetime(2026, 1, 5, 12, tzinfo=UTC)


def at_second(seconds: float) -> datetime:
    """A moment of the tests' day."""
    return START + timedelta(seconds=seconds)


def spec(loop: str = "shop", **changes: Any) -> LoopSpec:
    """A binary loop with a window, an expression and the last label."""
    body: dict[str, Any] = {
        "loop": loop,
        "task": "binary",
        "schema": {"price": {"type": "number", "missing": None}},
        "features": [{"fields": "all"}, {"name": "mean_3", "mean": "price", "over": "3 events"}],
        "label": {"within": "1h"},
    }
    return LoopSpec.model_validate(body | changes)


def loop_state(of: LoopSpec | None = None, revision: int = 1, sequence: int = 1) -> LoopState:
    """The state of the loop as the registry publishes it."""
    of = of or spec()
    return LoopState(
        id=f"state-{of.loop}-{sequence}",
        time=START,
        subject=of.loop,
        loop=of.loop,
        revision=revision,
        data=LoopStateData(spec=of, champion=LiveVersion(version="0", since=START), sequence=sequence),
    )


def event(n: int, price: float | None = 1.0, entity: str = "ada", loop: str = "shop", **changes: Any) -> EventReceived:
    """The n-th observation, one second after the one before."""
    time = at_second(n)
    return EventReceived(
        **{"id": f"e{n}", "time": time, "subject": entity, "loop": loop, "revision": 1} | changes,
        data=EventReceivedData(entity=entity, fields={"price": price}, received=time),
    )


def observation(n: int, price: float | None = 1.0, entity: str = "ada", loop: str = "shop") -> ObservationReceived:
    """The n-th observation, which serving predicted from by REST."""
    data = EventReceivedData(entity=entity, fields={"price": price}, received=at_second(n))
    return ObservationReceived(id=f"e{n}", time=at_second(n), subject=entity, loop=loop, revision=1, data=data)


def prediction(
    n: int, answer: Scalar = True, entity: str = "ada", loop: str = "shop", features: dict[str, Any] | None = None
) -> PredictionMade:
    """The prediction of the n-th observation."""
    return PredictionMade(
        id=f"p{n}",
        time=at_second(n + 0.1),
        subject=f"e{n}",
        loop=loop,
        revision=1,
        causationid=f"e{n}",
        data=PredictionMadeData(
            entity=entity,
            features=features or {"price": float(n)},
            prediction=answer,
            probabilities={"false": 0.2, "true": 0.8},
            version="logistic-0@5",
            role="champion",
            propensity=0.75,
            latency_ms=0.5,
            observed=at_second(n),
            door="stream",
            shadows=(Shadow(version="forest-0@5", prediction=False),),
        ),
    )


def label(
    n: int, value: Scalar | None = True, id: str | None = None, after: float = 60, loop: str = "shop", **data: Any
) -> LabelReceived:
    """The label of the n-th observation, `after` seconds later; `kind="feedback"` and `correct` as data."""
    time = at_second(n + after)
    return LabelReceived(
        id=id or f"l{n}",
        time=time,
        subject=f"e{n}",
        loop=loop,
        revision=1,
        data=LabelReceivedData(
            **{"prediction_id": f"e{n}", "kind": "label", "label": value, "received": at_second(n + 61)} | data
        ),
    )
