"""Lockstep on a real log: which rows are done, and which are waited for."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]

from everloop.local.kafka import Broker
from everloop.replay.outcomes import LogOutcomes, OutcomeMissing, topics_of
from everloop.topics import KafkaTopicReader
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.feature import (
    EntityState,
    EntityStateData,
    LabelJoined,
    LabelJoinedData,
    OutcomeObserved,
    OutcomeObservedData,
)
from everloop_schemas.loop import LoopSpec
from everloop_shared.settings import Settings

PREFIX = "lockstep-"
SPEC = {"loop": "market", "task": "binary", "schema": {"price": {"type": "number"}}}
LAGGED = LoopSpec.model_validate(SPEC | {"features": [{"fields": "all"}, {"name": "last", "lag": "label"}]})


def _event(kind: type[Event], name: str, subject: str, cause: str, data: Any) -> Event:
    return kind(  # type: ignore[call-arg]
        id=name, time=utc_time(0), subject=subject, loop="market", causationid=cause, data=data
    )


def _outcome(row: str) -> Event:
    data = OutcomeObservedData(
        prediction_id=row,
        entity="default",
        label=True,
        labelled=utc_time(0),
        predicted=utc_time(0),
        features={},
        prediction=True,
        version="0",
        role="baseline",
        propensity=1.0,
    )
    return _event(OutcomeObserved, f"o-{row}", row, row, data)


def _joined(row: str, observed: float) -> Event:
    data = LabelJoinedData(prediction_id=row, entity="default", label=True, observed=utc_time(observed))
    return _event(LabelJoined, f"j-{row}", "default", f"o-{row}", data)


def _state(row: str) -> Event:
    data = EntityStateData(entity="default", applied=1, state={})
    return _event(EntityState, f"s-{row}", "default", f"j-{row}", data)


@pytest.mark.kafka
async def test_a_row_is_done_once_its_outcome_is_out_and_features_know_its_label(kafka: Broker) -> None:
    settings = Settings(kafka_bootstrap=kafka.bootstrap, topic_prefix=PREFIX)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
    await admin.start()
    topics = [PREFIX + kind.topic.name for kind in (OutcomeObserved, LabelJoined, EntityState)]
    await admin.create_topics([NewTopic(topic, 2, 1) for topic in topics])
    await admin.close()

    async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap) as producer:

        async def publish(*events: Event) -> None:
            for event in events:
                await producer.send_and_wait(PREFIX + event.topic.name, event.encode(), event.key())

        await publish(_outcome("old"))
        reader = KafkaTopicReader(settings, topics_of(LAGGED), "replay")
        async with LogOutcomes(reader, LAGGED, within_s=0.5) as outcomes:
            await outcomes.wait("old")
            waiting = asyncio.create_task(outcomes.wait("new"))
            await publish(_outcome("new"), _joined("new", observed=1), _state("new"))
            await waiting
            await publish(_outcome("older"), _joined("older", observed=0))
            await outcomes.wait("older")  # the features include a newer label: feature publishes no state
            await publish(_outcome("half"), _joined("half", observed=2))
            with pytest.raises(OutcomeMissing, match="half has no outcome"):
                await outcomes.wait("half")
