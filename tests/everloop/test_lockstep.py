"""Lockstep on a real log: which rows are done, and which are waited for."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from tests.builders import events
from tests.builders.loops import loop_spec

from everloop.local.kafka import Broker
from everloop.replay.outcomes import LogOutcomes, OutcomeMissing, topics_of
from everloop.topics import KafkaTopicReader
from everloop_schemas.envelope import Event, utc_time
from everloop_schemas.feature import EntityState, LabelJoined, OutcomeObserved
from everloop_shared.settings import Settings

PREFIX = "lockstep-"
LAGGED = loop_spec(features=[{"fields": "all"}, {"name": "last", "lag": "label"}])


def _outcome(row: str) -> Event:
    return events.outcome_observed(row, id=f"o-{row}", causationid=row)


def _joined(row: str, observed: float) -> Event:
    data = {"prediction_id": row, "entity": "default", "label": True, "observed": utc_time(observed)}
    return events.event(LabelJoined, f"j-{row}", data, causationid=f"o-{row}")


def _state(row: str) -> Event:
    return events.entity_state("default", 1, {}, id=f"s-{row}", causationid=f"j-{row}")


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
