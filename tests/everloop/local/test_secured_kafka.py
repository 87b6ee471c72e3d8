"""Access to a real secured broker: who may write and read what, by certificate and by password, and how it is told."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # type: ignore[import-untyped]
from aiokafka.admin import AIOKafkaAdminClient  # type: ignore[import-untyped]
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType  # type: ignore[import-untyped]
from aiokafka.errors import (  # type: ignore[import-untyped]
    ClusterAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
    for_code,
)
from tests.builders.events import observation
from tests.everloop.test_command_line import run

from everloop.acls.__main__ import main as allow
from everloop.acls.bindings import Binding
from everloop.acls.cluster import AccessLists
from everloop.certs.authority import issue, read_issued
from everloop.certs.folder import ensure_certificates
from everloop.local.kafka import Broker, start_broker
from everloop.local.ports import free_port
from everloop.local.secured_kafka import KafkaSecurity, client_file
from everloop_schemas.audit import RequestRecorded
from everloop_schemas.ingest import EventReceived
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.topology import SERVICES
from everloop_schemas.training import ModelTrained
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.kafka.client import client_settings, read_config
from everloop_shared.messaging.kafka.engine import KafkaEngine
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import Engine, connected
from everloop_shared.settings import Settings

pytestmark = pytest.mark.kafka
PASSWORD = "not-in-clear-4711"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A secured broker; `ingest` may log in by password, too."""
    folder = tmp_path_factory.mktemp("secured")
    ensure_certificates(folder / "certs")
    security = KafkaSecurity(folder / "certs", {"ingest": PASSWORD}, free_port())
    running = asyncio.run(start_broker(folder, security=security))
    (folder / "password.json").write_text(
        json.dumps(
            {
                "security_protocol": "SASL_SSL",
                "sasl_mechanism": "SCRAM-SHA-512",
                "sasl_plain_username": "ingest",
                "sasl_plain_password": PASSWORD,
                "ssl_cafile": str(folder / "certs" / "ca.pem"),
            }
        )
    )
    (folder / "password.port").write_text(str(security.password_port))
    try:
        yield running
    finally:
        asyncio.run(running.stop())


def settings_of(broker: Broker, name: str, data: Path, **more: Any) -> Settings:
    """The settings of a service on the broker; `password` logs in as ingest by its password."""
    folder, bootstrap = broker.setup.folder, broker.bootstrap
    config = client_file(folder / "certs", name)
    if name == "client":  # a certificate of the installation, which nobody has allowed anything
        text = client_file(folder / "certs", "ingest").read_text().replace("ingest.", "client.")
        config = data / "client.json"
        config.write_text(text)
    if name == "password":
        config, bootstrap = folder / "password.json", f"127.0.0.1:{(folder / 'password.port').read_text()}"
    return Settings(data=data, kafka_bootstrap=bootstrap, kafka_config=config, **more)


async def write(broker: Broker, name: str, data: Path, topic: str) -> None:
    """Write a record as this user. Raises KafkaError."""
    producer = AIOKafkaProducer(**client_settings(settings_of(broker, name, data), "test"), enable_idempotence=True)
    try:
        await producer.start()
        await producer.send_and_wait(topic, b"{}", b"market")
    finally:
        await producer.stop()


def applied(broker: Broker, *options: str) -> dict[str, Any]:
    """What `everloop acls apply` says it has changed."""
    config = str(client_file(broker.setup.folder / "certs", "admin"))
    done = run("acls", "apply", "--kafka", broker.bootstrap, "--config", config, "--json", *options)
    assert done.exit_code == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


async def test_access_is_applied_once_and_what_is_not_needed_is_removed_on_demand(broker: Broker) -> None:
    admin = AccessLists(broker.bootstrap, read_config(client_file(broker.setup.folder / "certs", "admin")))
    stray = Binding("User:training", "TOPIC", LoopState.topic.name, "LITERAL", "WRITE")

    planned, first = applied(broker, "--dry-run"), applied(broker)
    again = await until_seen(broker, len(first["allowed"]))
    admin.create([stray])
    async with asyncio.timeout(10):
        while stray not in admin.of(["User:training"]):
            await asyncio.sleep(0.05)
    kept, pruned = applied(broker), applied(broker, "--prune")

    assert planned["allowed"] == first["allowed"]
    assert len(first["allowed"]) > 200
    assert again == {"allowed": [], "removed": [], "unneeded": []}
    assert (kept["unneeded"], kept["removed"]) == ([stray._asdict()], [])
    assert pruned["removed"] == [stray._asdict()]


async def test_the_job_of_kubernetes_allows_users_whose_names_have_another_beginning(
    broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    monkeypatch.setenv("EVERLOOP_KAFKA_BOOTSTRAP", broker.bootstrap)
    monkeypatch.setenv("EVERLOOP_KAFKA_CONFIG", str(client_file(broker.setup.folder / "certs", "admin")))
    monkeypatch.setenv("EVERLOOP_ACLS_USER_PREFIX", "CN=everloop-")

    await asyncio.to_thread(allow)

    admin = AccessLists(broker.bootstrap, read_config(client_file(broker.setup.folder / "certs", "admin")))
    may_write = Binding("User:CN=everloop-ingest", "TOPIC", EventReceived.topic.name, "LITERAL", "WRITE")
    async with asyncio.timeout(10):
        while may_write not in admin.of(["User:CN=everloop-ingest"]):
            await asyncio.sleep(0.05)
    assert int(capsys.readouterr().out.split()[0]) > 200


async def until_seen(broker: Broker, number: int) -> dict[str, Any]:
    """What another call says once the broker knows what it was told."""
    for _ in range(100):
        if not (again := applied(broker, "--dry-run"))["allowed"]:
            return again
        await asyncio.sleep(0.1)
    raise AssertionError(f"the broker does not know {number} bindings")


async def test_a_service_makes_and_writes_its_topics_by_password_and_a_reader_its_own_by_certificate(
    broker: Broker, tmp_path: Path
) -> None:
    engine = KafkaEngine("ingest", settings_of(broker, "password", tmp_path))

    async with connected(engine):
        await engine.publish([observation("o1", {"price": 1.0})])
    async with connected(KafkaEngine("feature", settings_of(broker, "feature", tmp_path))) as feature:
        ends = [await feature.end_offset(EventReceived.topic, partition) for partition in range(4)]

    assert sum(ends) == 1


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("ingest", ModelTrained.topic.name),
        ("password", ModelTrained.topic.name),
        ("ingest", LoopState.topic.name),
        ("training", LoopState.topic.name),
        ("serving", Decided.topic.name),
        ("client", EventReceived.topic.name),
    ],
)
async def test_a_forged_record_is_an_authorization_error(broker: Broker, tmp_path: Path, user: str, topic: str) -> None:
    owner = {ModelTrained.topic.name: "training", EventReceived.topic.name: "ingest"}.get(topic, "registry")
    topics = {t for t in (ModelTrained.topic, LoopState.topic, Decided.topic, EventReceived.topic) if t.name == topic}
    await ensure_topics(settings_of(broker, owner, tmp_path), topics, 20)

    with pytest.raises((TopicAuthorizationFailedError, ClusterAuthorizationFailedError)):
        await write(broker, user, tmp_path, topic)

    await write(broker, owner, tmp_path, topic)


async def test_the_audit_takes_records_of_every_service_and_is_read_altered_or_deleted_by_none(
    broker: Broker, tmp_path: Path
) -> None:
    topic, settings = RequestRecorded.topic, settings_of(broker, "ingest", tmp_path)
    await ensure_topics(settings, [topic], 20)
    for service in SERVICES:
        await write(broker, service, tmp_path, topic.name)

    admin = AIOKafkaAdminClient(**client_settings(settings, "test"))
    consumer = AIOKafkaConsumer(**client_settings(settings, "test"), auto_offset_reset="earliest")
    await admin.start()
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic.name, partition) for partition in range(4)])
        with pytest.raises(TopicAuthorizationFailedError):
            await asyncio.wait_for(consumer.getone(), 20)
        shorter = ConfigResource(ConfigResourceType.TOPIC, topic.name, {"retention.ms": "1"})
        altered = [resource[0] for answer in await admin.alter_configs([shorter]) for resource in answer.resources]
        deleted = [code for _, code in (await admin.delete_topics([topic.name])).topic_error_codes]
    finally:
        await consumer.stop()
        await admin.close()

    assert {for_code(code) for code in (*altered, *deleted)} == {TopicAuthorizationFailedError}
    assert len(altered) == len(deleted) == 1


async def test_nothing_is_lost_when_a_certificate_ends_that_was_renewed(broker: Broker, tmp_path: Path) -> None:
    certificates, end = broker.setup.folder / "certs", datetime.now(UTC) + timedelta(seconds=3)
    authority = read_issued(*((certificates / f"ca.{kind}").read_bytes() for kind in ("pem", "key")))
    short = issue(authority, "ingest", ["localhost"], end - timedelta(days=1), 1)
    (certificates / "ingest.key").write_bytes(short.key_pem)
    (certificates / "ingest.pem").write_bytes(short.certificate_pem)
    before = await written(broker, tmp_path)

    async with connected(KafkaEngine("ingest", settings_of(broker, "ingest", tmp_path))) as engine:
        await engine.publish([observation("o1", {"price": 1.0})])
        [done] = [each.done for each in ensure_certificates(certificates) if each.name == "ingest"]
        async with asyncio.timeout(20):
            while datetime.now(UTC) < end:
                await asyncio.sleep(0.05)
        await broker.restart()  # every connection begins anew
        async with asyncio.timeout(30):
            while not await is_published(engine, "o2"):
                await asyncio.sleep(0.1)

    assert done == "renewed"
    assert await written(broker, tmp_path) == before + 2


async def written(broker: Broker, data: Path) -> int:
    """How many observations the broker has."""
    async with connected(KafkaEngine("feature", settings_of(broker, "feature", data))) as feature:
        return sum([await feature.end_offset(EventReceived.topic, partition) for partition in range(4)])


async def is_published(engine: Engine, name: str) -> bool:
    """Whether the broker has taken an observation; it is away while it starts."""
    try:
        await engine.publish([observation(name, {"price": 1.0})])
    except Unavailable:
        return False
    return True


async def test_who_has_neither_certificate_nor_password_gets_no_answer(broker: Broker) -> None:
    asked = bytes.fromhex("0000000f 0012 0000 00000001 0005 616e6f6e79".replace(" ", ""))  # which versions? (KIP-35)
    trusting = ssl.create_default_context(cafile=broker.setup.folder / "certs" / "ca.pem")
    port, answers = broker.setup.port, []

    for context in (None, trusting):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        writer.write(asked)
        with contextlib.suppress(OSError):
            answers.append(await asyncio.wait_for(reader.read(100), 10))
        writer.close()

    assert [answer for answer in answers if answer[4:8] == b"\0\0\0\1"] == []


async def test_a_service_reads_no_topic_and_joins_no_group_of_another(broker: Broker, tmp_path: Path) -> None:
    await ensure_topics(settings_of(broker, "registry", tmp_path), {Decided.topic}, 20)
    consumer = AIOKafkaConsumer(
        Decided.topic.name, **client_settings(settings_of(broker, "ingest", tmp_path), "test"), group_id="registry"
    )

    async def read() -> None:
        await consumer.start()
        await consumer.getmany(timeout_ms=5_000)

    with pytest.raises(KafkaError, match="Authorization"):
        await asyncio.wait_for(read(), 20)
    await consumer.stop()
