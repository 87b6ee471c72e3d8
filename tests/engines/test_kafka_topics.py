"""Topics on a real broker: ours in another shape are refused."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import (  # type: ignore[import-untyped]
    ConfigResource,
    ConfigResourceType,
)
from tests.engines.buses import PARTITIONS, KafkaBus

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import DAY_MS
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import PredictionMade
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka import all_topics
from everloop_shared.messaging.kafka.topics import ensure_topics

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize(
    ("partitions", "config", "parts"),
    [
        (PARTITIONS + 1, {}, ["5 partitions", "EVERLOOP_PARTITIONS=5"]),
        (PARTITIONS, {"cleanup.policy": "delete"}, ["cleanup.policy=delete", "needs compact"]),
    ],
)
async def test_a_topic_in_another_shape_is_an_error_that_names_it(
    kafka_bus: KafkaBus, partitions: int, config: dict[str, str], parts: list[str]
) -> None:
    name = kafka_bus.name(LoopState.topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=config)])
    await admin.close()

    with pytest.raises(Misconfigured) as error:
        await ensure_topics(kafka_bus.settings, [LoopState.topic])

    assert all(part in error.value.detail for part in [name, *parts])


async def test_the_retention_of_new_and_existing_topics_is_set_and_all_else_that_was_set_stays(
    kafka_bus: KafkaBus,
) -> None:
    name, new = kafka_bus.name(PredictionMade.topic), kafka_bus.name(EventReceived.topic)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    there = {"cleanup.policy": "delete", "segment.ms": "123456"}
    await admin.create_topics([NewTopic(name, PARTITIONS, 1, topic_configs=there)])
    text = f"{PredictionMade.topic.name}=14d,{EventReceived.topic.name}=3d"

    for _ in range(2):
        settings = kafka_bus.settings.model_copy(update={"retention": text})
        await ensure_topics(settings, [PredictionMade.topic, EventReceived.topic])

    resources = [ConfigResource(ConfigResourceType.TOPIC, one, None) for one in (name, new)]
    found = [r for answer in await admin.describe_configs(resources) for r in answer.resources]
    await admin.close()
    kept = {r[3]: {e[0]: e[1] for e in r[4] if e[0] in ("retention.ms", "segment.ms") and e[3] == 1} for r in found}
    assert kept[name] == {"retention.ms": str(14 * DAY_MS), "segment.ms": "123456"}
    assert kept[new] == {"retention.ms": str(3 * DAY_MS)}


async def test_a_job_makes_the_topics_of_all_services_once_and_refuses_another_number_of_partitions(
    kafka_bus: KafkaBus, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLOOP_KAFKA_BOOTSTRAP", kafka_bus.settings.kafka_bootstrap)
    monkeypatch.setenv("EVERLOOP_TOPIC_PREFIX", kafka_bus.settings.topic_prefix)
    monkeypatch.setenv("EVERLOOP_PARTITIONS", "2")

    made = [await asyncio.to_thread(all_topics.main) for _ in range(2)]
    monkeypatch.setenv("EVERLOOP_PARTITIONS", "3")
    refused = await asyncio.to_thread(all_topics.main)

    admin = AIOKafkaAdminClient(bootstrap_servers=kafka_bus.settings.kafka_bootstrap)
    await admin.start()
    there = set(await admin.list_topics())
    await admin.delete_topics([kafka_bus.name(topic) for topic in TOPICS.values()])
    await admin.close()
    assert (made, refused) == ([0, 0], 1)
    assert {kafka_bus.name(topic) for topic in TOPICS.values()} <= there
    assert "EVERLOOP_PARTITIONS=2" in capsys.readouterr().err
