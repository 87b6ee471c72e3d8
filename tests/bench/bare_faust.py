"""The bare Faust agent: one table, one send, nothing else."""

from __future__ import annotations

import sys
from typing import Any

import faust
import uvloop


def app(bootstrap: str, name: str, source: str, target: str, folder: str) -> faust.App:
    """A running mean per key, kept in a table and sent on."""
    made = faust.App(
        name,
        broker=f"kafka://{bootstrap}",
        datadir=folder,
        store="memory://",
        web_enabled=False,
        topic_partitions=4,
        topic_disable_leader=True,
        stream_wait_empty=False,
        consumer_auto_offset_reset="earliest",
        broker_commit_interval=0.5,
        producer_acks=-1,
    )
    observed = made.topic(source, key_type=str, key_serializer="raw", value_serializer="json")
    computed = made.topic(target, key_type=str, key_serializer="raw", value_serializer="json")
    table: Any = made.Table("means", default=dict, partitions=4)

    @made.agent(observed)
    async def means(stream: Any) -> None:
        async for key, event in stream.items():
            seen = table[key]
            seen = {"n": seen.get("n", 0) + 1, "sum": seen.get("sum", 0.0) + event["data"]["fields"]["nswdemand"]}
            table[key] = seen
            features = {**event["data"]["fields"], "demand_mean": seen["sum"] / seen["n"]}
            await computed.send(key=key, value={"id": event["id"], "features": features})

    return made


if __name__ == "__main__":
    uvloop.install()
    faust.Worker(app(*sys.argv[1:]), loglevel="WARN").execute_from_commandline()
