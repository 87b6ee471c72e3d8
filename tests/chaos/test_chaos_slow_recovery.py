"""A recovery on a slow machine: what is fetched before the source partitions are resumed must not get lost."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from faust.transport.consumer import Consumer
from tests.engines.buses import FaustBus, has_outputs, received, send_all, until
from tests.engines.test_engine_faust import Counter

from everloop.local.kafka import Broker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]


async def test_what_is_fetched_before_partitions_are_resumed_is_not_lost(
    kafka: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = FaustBus(kafka.bootstrap, tmp_path)
    seek = Consumer.perform_seek

    async def slow_seek(self: Any) -> None:
        await seek(self)
        await asyncio.sleep(3)  # a busy machine, between the first partition's seek and the resumption of all

    try:
        async with Counter().running(bus):
            await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(40)])
            await until(lambda: has_outputs(bus, 40))
        await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(40, 80)])
        monkeypatch.setattr(Consumer, "perform_seek", slow_seek)
        counter = Counter()

        async with counter.running(bus):
            await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(80, 88)])
            await until(lambda: has_outputs(bus, 88))

        assert {key: int(value) for _, key, value in counter.store.items()} == {f"l/u{i}": 11 for i in range(8)}
    finally:
        await bus.close()
