"""Topics on a real broker: ours in another shape are refused."""

from __future__ import annotations

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic  # type: ignore[import-untyped]
from tests.engines.buses import PARTITIONS, KafkaBus

from everloop_schemas.registry import LoopState
from everloop_shared.errors import Misconfigured
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
