"""What is sent: the electricity stream as observations, vectors and outcomes, and loops that take it."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from tests.bench.bus import Record

from everloop_models import Artifact, OnlineModel, build, save
from everloop_models.formats import DEFAULT_FORMAT
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Event, Fields
from everloop_schemas.feature import FeaturesComputed, FeaturesComputedData, OutcomeObserved, OutcomeObservedData
from everloop_schemas.ingest import EventReceived, EventReceivedData
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import BASELINE, LiveVersion, LoopState, LoopStateData
from everloop_schemas.serving import PredictionMade, PredictionMadeData

CSV = Path(__file__).parents[2] / "shared/everloop/examples/electricity/electricity.csv.gz"
FIELDS = ("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer")
START = datetime(2026, 1, 1, tzinfo=UTC)
ENTITIES = 500
LOOP = "market"


def spec(loop: str = LOOP) -> dict[str, Any]:
    """A loop as a user writes it: six numbers, one window, logistic regression."""
    return {
        "loop": loop,
        "task": "binary",
        "schema": {name: {"type": "number"} for name in FIELDS},
        "features": [{"fields": "all"}, {"name": "demand_mean_12", "mean": "nswdemand", "over": "12 events"}],
        "models": [{"estimator": "river.linear_model.LogisticRegression", "scale": True}],
    }


@cache
def market() -> list[tuple[Fields, bool]]:
    """The stream: fields and label of each row."""
    with gzip.open(CSV, "rt") as file:
        return [({n: float(row[n]) for n in FIELDS}, row["class"] == "1") for row in csv.DictReader(file)]


def rows(count: int) -> Iterator[tuple[int, Fields, bool]]:
    """As many rows as asked for, from the beginning again where the stream ends."""
    for i, (fields, label) in enumerate(islice(cycle(market()), count)):
        yield i, fields, label


def observations(
    count: int, loops: int = 1, entities: int = ENTITIES, start: int = 0, stride: int = 1
) -> Iterator[Record]:
    """Records of ingest.event_received.v1, over all loops and, in strides, entities in turn."""
    for i, fields, _ in rows(count):
        n, when = start + i, START + timedelta(seconds=start + i)
        yield wire(observation(f"o{n}", f"e{n // loops * stride % entities}", fields, when, name(n % loops)))


def observation(id: str, entity: str, fields: Fields, when: datetime, loop: str = LOOP) -> EventReceived:
    """An observation from the stream."""
    data = EventReceivedData(entity=entity, fields=fields, received=when)
    return EventReceived(id=id, time=when, subject=entity, loop=loop, revision=1, data=data)


def vectors(count: int, loops: int = 1, start: int = 0) -> Iterator[Record]:
    """Records of feature.features_computed.v1."""
    for i, fields, _ in rows(count):
        n, when = start + i, START + timedelta(seconds=start + i)
        data = FeaturesComputedData(
            prediction_id=f"o{n}", entity=f"e{n % ENTITIES}", features=_features(fields), received=when
        )
        loop = name(n % loops)
        yield wire(FeaturesComputed(id=f"f{n}", time=when, subject=data.entity, loop=loop, revision=1, data=data))


def prediction(id: str, entity: str, fields: Fields) -> PredictionMade:
    """What serving answered for an observation."""
    data = PredictionMadeData(
        entity=entity,
        features=_features(fields),
        prediction=False,
        probabilities={"true": 0.4, "false": 0.6},
        version=BASELINE,
        role="baseline",
        propensity=1.0,
        latency_ms=0.1,
        observed=START,
        door="stream",
        fingerprint="0" * 32,
    )
    return PredictionMade(id=f"p-{id}", time=START, subject=id, loop=LOOP, revision=1, data=data)


def outcomes(count: int, start: int = 0, loops: int = 1) -> Iterator[OutcomeObserved]:
    """Events of feature.outcome_observed.v1, over all loops in turn."""
    for i, fields, label in rows(count):
        n, when = start + i, START + timedelta(seconds=start + i)
        data = OutcomeObservedData(
            prediction_id=f"o{n}",
            entity=f"e{n % ENTITIES}",
            label=label,
            labelled=when,
            predicted=when,
            features=_features(fields),
            prediction=False,
            probabilities={"true": 0.4, "false": 0.6},
            version=BASELINE,
            role="baseline",
            propensity=1.0,
        )
        loop = name(n % loops)
        yield OutcomeObserved(id=f"y{n}", time=when, subject=f"o{n}", loop=loop, revision=1, data=data)


def state(loop: str = LOOP, champion: LiveVersion | None = None, sequence: int = 0, **changes: object) -> LoopState:
    """The registry's state of a loop, whose spec has these changes."""
    data = LoopStateData(
        spec=LoopSpec.model_validate(spec(loop) | changes),
        champion=champion or LiveVersion(version=BASELINE, since=START),
        sequence=sequence,
    )
    return LoopState(
        id=f"{loop}-{sequence}", time=START, subject=data.champion.version, loop=loop, revision=1, data=data
    )


def name(number: int) -> str:
    """The name of the n-th loop."""
    return LOOP if number == 0 else f"{LOOP}-{number}"


def trained(learned: int = 1_000) -> OnlineModel:
    """The loop's model after some outcomes."""
    parsed = LoopSpec.model_validate(spec())
    model = build(parsed.models[0], parsed)
    for _, fields, label in rows(learned):
        model.learn(_features(fields), label)
    return model


def champion(folder: Path, loop: str = LOOP) -> LiveVersion:
    """A version of it, with its artifact in the folder of an installation."""
    return stored(folder, "logistic-regression-0@999", save(trained()), loop)


def stored(
    folder: Path, version: str, artifact: Artifact, loop: str = LOOP, format_name: str = DEFAULT_FORMAT
) -> LiveVersion:
    """A version with this artifact, which is put into the folder of an installation."""
    store = ArtifactStore((folder / "artifacts").absolute().as_uri())
    uri = store.put(store.name(loop, version, artifact.sha256, format_name), artifact.data)
    about = {"uri": uri, "sha256": artifact.sha256, "size": artifact.size, "format": format_name}
    return LiveVersion.model_validate({"version": version, "since": START, **about})


def wire(event: Event) -> Record:
    """An event as a record."""
    return event.key(), event.encode()


def _features(fields: Fields) -> Fields:
    return {**fields, "demand_mean_12": fields["nswdemand"]}
