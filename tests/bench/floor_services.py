"""The floor under the whole loop: what its hops cost in bare aiokafka, msgspec and River, without Everloop's promises.

`python -m tests.bench.floor_services ROLE BOOTSTRAP PREFIX [PORT]` runs one process of it. Records are as large as
ours and take the same way; each role writes a batch, awaits its acknowledgements, and commits its offsets. Nothing is
checked, deduplicated or stored but the entity's window on its topic, and no second version predicts or learns.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import msgspec
import uvicorn
import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from river import linear_model, preprocessing
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from tests.bench.stream import FIELDS, LOOP

from everloop_schemas.catalogue import decode
from everloop_schemas.envelope import Event, Fields
from everloop_schemas.feature import (
    EntityState,
    EntityStateData,
    FeaturesComputed,
    FeaturesComputedData,
    OutcomeObserved,
    OutcomeObservedData,
)
from everloop_schemas.ingest import EventReceived, EventReceivedData, LabelReceived, LabelReceivedData
from everloop_schemas.serving import PredictionMade, PredictionMadeData

BATCH = 500
WINDOW = 12
Work = Callable[[Any], Iterable[Event]]


class Entry(msgspec.Struct):
    """An observation or a label, as an application posts it."""

    id: str
    entity: str = "default"
    data: Fields = {}
    label: bool | None = None


@dataclass
class Features:
    """The window of each entity, and the predictions that wait for their labels, in memory."""

    windows: dict[str, deque[float]] = field(default_factory=dict)
    predictions: dict[str, PredictionMade] = field(default_factory=dict)
    labels: dict[str, LabelReceived] = field(default_factory=dict)

    def observe(self, event: EventReceived) -> list[Event]:
        """The vector, and the entity's window."""
        window = self.windows.setdefault(event.subject, deque(maxlen=WINDOW))
        window.append(float(event.data.fields["nswdemand"]))  # type: ignore[arg-type]
        vector = {**event.data.fields, "demand_mean_12": sum(window) / len(window)}
        about: dict[str, Any] = {
            "time": event.time,
            "subject": event.subject,
            "loop": event.loop,
            "causationid": event.id,
        }
        computed = FeaturesComputedData(
            prediction_id=event.id, entity=event.subject, features=vector, received=event.data.received
        )
        state = EntityStateData(entity=event.subject, applied=1, state={"ring": {"nswdemand": list(window)}})
        return [
            FeaturesComputed(id=f"f-{event.id}", data=computed, **about),
            EntityState(id=f"s-{event.id}", data=state, **about),
        ]

    def remember(self, event: PredictionMade) -> list[Event]:
        """The outcome, where the label came first."""
        label = self.labels.pop(event.subject, None)
        if label is None:
            self.predictions[event.subject] = event
            return []
        return [_outcome(event, label)]

    def label(self, event: LabelReceived) -> list[Event]:
        """The outcome, where the prediction came first."""
        prediction = self.predictions.pop(event.subject, None)
        if prediction is None:
            self.labels[event.subject] = event
            return []
        return [_outcome(prediction, event)]


def _outcome(prediction: PredictionMade, label: LabelReceived) -> OutcomeObserved:
    made = prediction.data
    data = OutcomeObservedData(
        prediction_id=prediction.subject,
        entity=made.entity,
        label=label.data.label,
        labelled=label.time,
        predicted=prediction.time,
        features=made.features,
        prediction=made.prediction,
        probabilities=made.probabilities,
        version=made.version,
        role=made.role,
        propensity=made.propensity,
    )
    return OutcomeObserved(
        id=f"o-{prediction.subject}", time=label.time, subject=prediction.subject, loop=prediction.loop, data=data
    )


def predicting() -> Work:
    """Predict from a vector."""
    model = _model()

    def predict(event: FeaturesComputed) -> list[Event]:
        vector = event.data.features
        probability = model.predict_proba_one(vector).get(True, 0.0)
        data = PredictionMadeData(
            entity=event.subject,
            features=vector,
            prediction=probability > 0.5,
            probabilities={"true": probability, "false": 1 - probability},
            version="floor-0@0",
            role="champion",
            propensity=1.0,
            latency_ms=0.1,
            observed=event.time,
            door="stream",
        )
        about: dict[str, Any] = {"subject": event.data.prediction_id, "loop": event.loop, "causationid": event.id}
        return [PredictionMade(id=f"p-{event.data.prediction_id}", time=datetime.now(UTC), data=data, **about)]

    return predict


def learning() -> Work:
    """Predict, then learn an outcome."""
    model = _model()

    def learn(event: OutcomeObserved) -> list[Event]:
        model.predict_proba_one(event.data.features)
        model.learn_one(event.data.features, event.data.label)
        return []

    return learn


def monitoring() -> Work:
    """The running accuracy."""
    counts = [0, 0]

    def count(event: OutcomeObserved) -> list[Event]:
        counts[0] += event.data.label == event.data.prediction
        counts[1] += 1
        return []

    return count


def _model() -> Any:
    return preprocessing.StandardScaler() | linear_model.LogisticRegression()


class Log:
    """The topics of the floor."""

    def __init__(self, bootstrap: str, prefix: str) -> None:
        self.bootstrap, self.prefix = bootstrap, prefix
        self.producer: Any = None

    async def __aenter__(self) -> Log:
        self.producer = AIOKafkaProducer(
            bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=True, max_batch_size=512 * 1024
        )
        await self.producer.start()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.producer.stop()

    async def publish(self, events: Sequence[Event]) -> None:
        """Write events and await their acknowledgements."""
        acks = [await self.producer.send(self.prefix + e.topic.name, e.encode(), e.key()) for e in events]
        await asyncio.gather(*acks)

    async def consume(self, role: str, work: dict[type[Event], Work]) -> None:
        """At least once, for ever."""
        names = {self.prefix + kind.topic.name: (kind.topic.name, handle) for kind, handle in work.items()}
        consumer = AIOKafkaConsumer(
            *names,
            bootstrap_servers=self.bootstrap,
            group_id=self.prefix + role,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        await consumer.start()
        while True:
            polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
            events = list[Event]()
            for tp, records in polled.items():
                name, handle = names[tp.topic]
                for record in records:
                    events += handle(decode(name, record.value))
            if events:
                await self.publish(events)
            if polled:
                await consumer.commit({tp: records[-1].offset + 1 for tp, records in polled.items()})


def ingest(log: Log) -> Starlette:
    """Takes lists of observations, and of labels."""
    read = msgspec.json.Decoder(list[Entry]).decode

    def endpoint(build: Callable[[Entry, datetime], Event]) -> Callable[[Request], Awaitable[Response]]:
        async def accept(request: Request) -> Response:
            now = datetime.now(UTC)
            await log.publish([build(entry, now) for entry in read(await request.body())])
            return Response(status_code=202)

        return accept

    def observation(entry: Entry, now: datetime) -> Event:
        fields: Fields = {name: entry.data[name] for name in FIELDS}
        data = EventReceivedData(entity=entry.entity, fields=fields, received=now)
        return EventReceived(id=entry.id, time=now, subject=entry.entity, loop=LOOP, revision=1, data=data)

    def label(entry: Entry, now: datetime) -> Event:
        data = LabelReceivedData(prediction_id=entry.id, kind="label", label=entry.label, received=now)
        return LabelReceived(id=f"l-{entry.id}", time=now, subject=entry.id, loop=LOOP, revision=1, data=data)

    routes = [Route(f"/v1/loops/{LOOP}/events", endpoint(observation), methods=["POST"])]
    return Starlette(routes=[*routes, Route(f"/v1/loops/{LOOP}/labels", endpoint(label), methods=["POST"])])


async def main(role: str, bootstrap: str, prefix: str, port: int) -> None:
    """Run one role."""
    async with Log(bootstrap, prefix) as log:
        if role == "ingest":
            config = uvicorn.Config(ingest(log), port=port, http="httptools", log_level="warning", access_log=False)
            await uvicorn.Server(config).serve()
            return
        features = Features()
        work: dict[str, dict[type[Event], Work]] = {
            "feature": {
                EventReceived: features.observe,
                PredictionMade: features.remember,
                LabelReceived: features.label,
            },
            "serving": {FeaturesComputed: predicting()},
            "training": {OutcomeObserved: learning()},
            "monitoring": {OutcomeObserved: monitoring()},
        }
        await log.consume(role, work[role])


if __name__ == "__main__":
    role, bootstrap, prefix, *rest = sys.argv[1:]
    uvloop.run(main(role, bootstrap, prefix, int(rest[0]) if rest else 0))
