"""Keyed state of the Faust engine on disk: a start reads what the disk does not have of the changelog, and no more."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from tests.engines.buses import SERVICE, FaustBus, has_outputs, received, send_all, until
from tests.engines.test_engine_faust import Counter

from everloop_shared.messaging.keyed.state import Change, LogPosition
from everloop_shared.messaging.keyed.store import KeyedStore

pytestmark = pytest.mark.kafka


class CountedStore(KeyedStore):
    """Counts what it is given of the changelog."""

    def __init__(self) -> None:
        super().__init__("counts")
        self.read = 0

    def restore(
        self, changes: Iterable[Change], read_to: Mapping[int, LogPosition] | None = None, left: int = 0
    ) -> None:
        changes = list(changes)
        self.read += len(changes)
        super().restore(changes, read_to, left)


def counter() -> tuple[Counter, CountedStore]:
    made, store = Counter(), CountedStore()
    made.store = store
    return made, store


def counts(counter: Counter) -> dict[str, int]:
    return {key: int(value) for _, key, value in counter.store.items()}


@pytest.fixture
def bus(faust_bus: FaustBus) -> FaustBus:
    """The bus of this file."""
    return faust_bus


def state_folder(bus: FaustBus) -> Path:
    return bus.settings.folder(SERVICE) / "state"


async def count_events(bus: FaustBus, first: int, last: int) -> None:
    """A session that handles these events."""
    async with Counter().running(bus):
        await send_all(bus, [received(f"{i}", entity=f"u{i % 3}") for i in range(first, last)])
        await until(lambda: has_outputs(bus, last))


async def test_with_its_disk_a_start_reads_nothing_and_without_it_everything(bus: FaustBus) -> None:
    await count_events(bus, 0, 9)
    warm, with_disk = counter()
    async with warm.running(bus):
        found = counts(warm)

    shutil.rmtree(state_folder(bus))
    cold, without_disk = counter()
    async with cold.running(bus):
        assert counts(cold) == found == {"l/u0": 3, "l/u1": 3, "l/u2": 3}

    assert with_disk.read == 0
    assert without_disk.read >= 3


async def test_with_a_disk_of_an_earlier_time_only_the_rest_is_read(bus: FaustBus, tmp_path: Path) -> None:
    await count_events(bus, 0, 300)
    shutil.copytree(state_folder(bus), tmp_path / "earlier")
    await count_events(bus, 300, 309)
    shutil.rmtree(state_folder(bus))
    shutil.move(tmp_path / "earlier", state_folder(bus))
    again, store = counter()

    async with again.running(bus):
        assert counts(again) == {f"l/u{n}": 103 for n in range(3)}

    assert 0 < store.read <= 9


async def test_a_disk_ahead_of_a_changelog_that_was_made_anew_is_not_used(
    bus: FaustBus, caplog: pytest.LogCaptureFixture
) -> None:
    await count_events(bus, 0, 9)
    admin = AIOKafkaAdminClient(bootstrap_servers=bus.settings.kafka_bootstrap)
    await admin.start()
    try:
        await admin.delete_topics([f"{bus.settings.topic_prefix}{SERVICE}.counts.changelog"])
    finally:
        await admin.close()
    again, _ = counter()

    async with again.running(bus):
        assert counts(again) == {}
        await send_all(bus, [received("9", entity="u0")])
        await until(lambda: has_outputs(bus, 10))
        await until(lambda: _has(again, {"l/u0": 1}))

    assert "the log ends at" in caplog.text


async def _has(counter: Counter, wanted: dict[str, int]) -> bool:
    return counts(counter) == wanted


async def test_a_partition_that_comes_back_continues_its_stale_disk(bus: FaustBus) -> None:
    one, store = counter()
    async with one.running(bus):
        await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(80)])
        await until(lambda: has_outputs(bus, 80))
        mine, bus.settings = bus.settings, bus.settings.model_copy(update={"instance": "two"})
        async with Counter().running(bus):
            await send_all(bus, [received(f"{i}", entity=f"u{i % 8}") for i in range(80, 160)])
            await until(lambda: has_outputs(bus, 160))
        bus.settings = mine
        await until(lambda: _has(one, {f"l/u{n}": 20 for n in range(8)}), within_s=30)

    assert 0 < store.read <= 80
