"""The table of who reads and writes which topic is what the code of the six services does."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from tests.builders.loops import loop_spec, loop_state
from tests.builders.running import http_client, run_until_exit
from tests.everloop.memory_bus.six_services import installation

from everloop_feature.app import build as build_feature
from everloop_feature.settings import FeatureSettings
from everloop_schemas.audit import RequestRecorded
from everloop_schemas.bus_access import CHANGELOGS, READS, SOURCE_GROUPS, all_grants, grants
from everloop_schemas.catalogue import TOPICS, is_internal_topic
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.retention import is_record
from everloop_schemas.topology import SERVICES
from everloop_shared.messaging.kafka.topics import topic_config
from everloop_shared.messaging.keyed.groups import KeyedGroup
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_training.app import build as build_training
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker

READ_AND_WRITTEN = {"READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS"}
ACTS_FOR = {"archive": "training"}
"""Engines of a service under another name."""


@pytest.mark.app
async def test_each_service_may_read_what_its_routes_and_readers_read_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: dict[str, set[str]] = defaultdict(set)

    def note(method: str) -> None:
        stock = getattr(MemoryEngine, method)

        def noting(self: MemoryEngine, first: Any, *more: Any, **named: Any) -> Any:
            topics = [route.topic for route in first] if method == "consumer" else [first]
            read[ACTS_FOR.get(self.service, self.service)] |= {topic.name for topic in topics}
            return stock(self, first, *more, **named)

        monkeypatch.setattr(MemoryEngine, method, noting)

    for method in ("consumer", "read", "read_records", "end_offset", "begin_offset"):
        note(method)
    broker, state = MemoryBroker(), loop_state(loop_spec())
    services = installation(broker, tmp_path)
    await broker.append(state.topic.name, state.key(), state.encode())
    archive = (tmp_path / "archive").as_uri()
    settings = TrainingSettings(data=tmp_path, port=0, archive=archive, archive_seconds=0.1)
    services["training"] = build_training(settings, MemoryBroker().engine, InlineWorker.start)

    for service in services.values():  # one after the other: Alembic migrates one database at a time
        async with run_until_exit(service):
            if service.name == "feature":
                async with http_client(service) as client:
                    (await client.get(f"/v1/loops/{state.loop}/subjects/ada")).raise_for_status()
            for _ in range(500):
                if read[service.name] >= READS[service.name]:
                    break
                await asyncio.sleep(0.01)

    assert read == {name: set(topics) for name, topics in READS.items()}


def test_changelogs_are_those_of_the_keyed_state(tmp_path: Path) -> None:
    stores: list[str] = []

    def keyed(service: str, groups: list[KeyedGroup], engine: object) -> list[Any]:
        stores.extend(f"{service}.{group.store.name}.changelog" for group in groups)
        return []

    build_feature(FeatureSettings(data=tmp_path), MemoryBroker().engine, keyed)  # type: ignore[arg-type]

    assert CHANGELOGS == {"feature": tuple(stores)}
    assert all(map(is_internal_topic, stores))


def test_a_topic_is_written_by_its_owner_alone() -> None:
    writers = defaultdict(set)
    for grant in all_grants():
        if grant.operation == "WRITE":
            writers[grant.name].add(grant.service)

    owners = {name: {topic.owner} for name, topic in TOPICS.items()} | {c: {"feature"} for c in CHANGELOGS["feature"]}
    assert writers == owners | {RequestRecorded.topic.name: set(SERVICES)}


def test_the_audit_is_written_by_all_read_by_none_and_altered_by_nobody() -> None:
    granted = [grant for grant in all_grants() if grant.name == RequestRecorded.topic.name]

    assert {(grant.service, grant.operation) for grant in granted} == {
        (service, operation) for service in SERVICES for operation in ("WRITE", "CREATE", "DESCRIBE_CONFIGS")
    }
    altered = {grant.name for grant in all_grants() if grant.operation not in READ_AND_WRITTEN}
    assert {grant.operation for grant in all_grants()} - READ_AND_WRITTEN == {"ALTER_CONFIGS"}
    assert not [name for name in altered if is_record(TOPICS[name])]
    assert topic_config(RequestRecorded.topic)["retention.ms"] == "-1"
    assert topic_config(RequestRecorded.topic)["cleanup.policy"] == "delete"


def test_monitoring_and_exports_about_persons_read_dead_letters_and_groups_are_a_service_s_own() -> None:
    letters = {event.topic.name for event in DEAD_LETTERS.values()}

    readers = {g.service for g in all_grants() if g.name in letters and g.operation == "READ"}
    groups = {service: {g.name for g in grants(service) if g.kind == "GROUP"} for service in SERVICES}

    assert readers == {"feature", "monitoring"}
    assert groups == {service: {service} for service in SERVICES} | {"ingest": {"ingest", SOURCE_GROUPS}}
    assert [g for g in all_grants() if g.prefixed and g.name != SOURCE_GROUPS] == []
