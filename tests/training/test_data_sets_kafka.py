"""Data sets from real Kafka: the same digest before and after older records were deleted."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from aiokafka import TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete  # type: ignore[import-untyped]
from tests.training.test_data_sets import data_sets_of, stored
from tests.training.training_harness import event

from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.routes import connected
from everloop_training.errors import DataSetGone
from everloop_training.settings import TrainingSettings

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


async def test_deleted_records_change_no_digest_and_a_start_among_them_is_an_error(kafka: Any) -> None:
    prefix = f"{uuid4().hex[:8]}."
    settings = TrainingSettings(port=0, kafka_bootstrap=kafka.bootstrap, topic_prefix=prefix, partitions=1)
    async with connected(kafka_factory(settings)("training")) as engine:
        await engine.publish([event(i) for i in range(1_200)])
        before, whole = await stored(data_sets_of(engine), 700, 1_199), await stored(data_sets_of(engine), 0, 1_199)

        admin = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap)
        await admin.start()
        await admin.delete_records({TopicPartition(prefix + OutcomeObserved.topic.name, 0): RecordsToDelete(600)})
        await admin.close()

        assert await stored(data_sets_of(engine), 700, 1_199) == before
        assert (before[0].rows, whole[0].rows) == (500, 1_200)
        with pytest.raises(DataSetGone, match="at offset 600"):
            await stored(data_sets_of(engine), 0, 1_199)
        assert (await data_sets_of(engine).latest("market", 100)).start == 1_100
