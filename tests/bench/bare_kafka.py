"""The bare aiokafka loop: consume, work, produce idempotently, await the acks of the batch, commit by hand."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer  # type: ignore[import-untyped]
from tests.bench.bare_onnx import bare_model

BATCH = 500
Work = Callable[[bytes], bytes]


def clients(bootstrap: str, group: str, source: str) -> tuple[AIOKafkaConsumer, AIOKafkaProducer]:
    """A consumer and a producer with the promises of our engine's."""
    consumer = AIOKafkaConsumer(
        source,
        bootstrap_servers=bootstrap,
        group_id=group,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=100,
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, linger_ms=0, max_batch_size=512 * 1024
    )
    return consumer, producer


async def transform(bootstrap: str, group: str, source: str, target: str, work: Work) -> None:
    """At least once, in order per partition: what our engine promises, and nothing else of it."""
    consumer, producer = clients(bootstrap, group, source)
    await consumer.start()
    await producer.start()
    while True:
        polled = await consumer.getmany(timeout_ms=200, max_records=BATCH)
        acks = []
        for records in polled.values():
            for r in records:
                acks.append(await producer.send(target, work(r.value), r.key, r.partition))
        if acks:
            await asyncio.gather(*acks)
            await consumer.commit({tp: records[-1].offset + 1 for tp, records in polled.items()})


def passed_on(value: bytes) -> bytes:
    """Without looking."""
    return value


def rewritten(value: bytes) -> bytes:
    """Read as JSON, another event written as JSON."""
    event = json.loads(value)
    event["type"], event["source"] = "serving.observation_received.v1", "everloop/serving"
    return json.dumps(event).encode()


def scored(model: Any) -> Work:
    """Read as JSON, ask the model, write the prediction as JSON."""

    def work(value: bytes) -> bytes:
        data = json.loads(value)["data"]
        probabilities = model.predict_proba_one(data["features"])
        return json.dumps(
            {
                "id": data["prediction_id"],
                "features": data["features"],
                "prediction": max(probabilities, key=probabilities.get),
                "probabilities": {str(k): p for k, p in probabilities.items()},
            }
        ).encode()

    return work


if __name__ == "__main__":
    kind, bootstrap, group, source, target, *rest = sys.argv[1:]
    chosen = {"bytes": passed_on, "json": rewritten}.get(kind) or scored(bare_model(Path(rest[0])))
    uvloop.run(transform(bootstrap, group, source, target, chosen))
