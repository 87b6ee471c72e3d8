"""A whole installation with TLS and a Kafka user for each service: it closes a loop, and says nothing in clear."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import TopicAuthorizationFailedError  # type: ignore[import-untyped]
from tests.integrations.capture import Capture
from tests.journeys.installation import Installation, counts, installed, until

from everloop import Everloop
from everloop.local.secured_kafka import client_file
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.settings import Settings

pytestmark = pytest.mark.integrations
LOOP = "loop-4711-of-nobody"
FIELD, COMMENT, ENTITY = "secretfieldname", "a-comment-that-nobody-reads", "entity-4711-of-nobody"
SPEC = f"""
loop: {{loop}}
task: binary
schema: {{{{{FIELD}: {{{{type: number}}}}}}}}
features: [{{{{fields: all}}}}, {{{{name: mean_of_three, mean: {FIELD}, over: 3 events}}}}]
models: [{{{{estimator: river.linear_model.LogisticRegression, scale: true}}}}]
"""
ROWS = 600


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation started by `everloop up --tls`."""
    with installed(tmp_path_factory.mktemp("secured"), "--tls") as installation:
        yield installation


def play(installation: Installation, rows: int) -> None:
    """Publish, predict and label these rows."""
    with Everloop(str(installation.folder)) as client:
        for number in range(rows):
            value = random.random()
            client.predict(LOOP, {FIELD: value}, id=f"o{number}", entity=ENTITY)
            client.feedback(LOOP, f"o{number}", label=value > 0.5, comment=COMMENT)


def test_the_loop_closes_by_services_with_nothing_but_their_own_rights_and_nothing_is_in_clear(
    secured: Installation, tmp_path: Path
) -> None:
    with Capture() as capture:
        capture.find(FIELD, COMMENT, ENTITY, LOOP)
        secured.apply(LOOP, SPEC)
        play(secured, ROWS)
        closed = until(lambda: counts(secured.status(LOOP)) == (ROWS, ROWS, ROWS), 90)
        champion = until(lambda: secured.status(LOOP).get("champion", {}).get("version") != "0", 90)
        saved = secured.everloop("backup", str(tmp_path / "backup"))
        seen, size = capture.found, capture.bytes
        say_in_clear(COMMENT)
        until(lambda: COMMENT in capture.found, 10)

    assert closed
    assert champion
    assert saved.returncode == 0, saved.stderr
    assert seen == set()
    assert size > 1_000_000
    assert capture.found == {COMMENT}
    logs = "".join(file.read_text() for file in (secured.folder / "logs").glob("*.log"))
    assert "AuthorizationFailed" not in logs
    assert "DENIED" not in logs.replace("default result=DENIED", "")


def say_in_clear(word: str) -> None:
    """Send a word over a connection without TLS, which the capture must see."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(word.encode())
            with server.accept()[0] as accepted:
                accepted.recv(100)


def test_every_port_refuses_plain_requests(secured: Installation) -> None:
    addresses = [entry["url"].rpartition("//")[2] for entry in secured.services().values() if "url" in entry]
    addresses += [secured.services()["serving"]["grpc"], secured.services()["kafka"]["bootstrap"]]

    for address in addresses:
        host, _, port = address.partition(":")
        with socket.create_connection((host, int(port)), 5) as plain:
            plain.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
            plain.settimeout(10)
            try:
                answer = plain.recv(1_000)
            except ConnectionResetError:
                answer = b""
        assert b"200" not in answer
        trusting = ssl.create_default_context(cafile=secured.services()["tls"]["ca"])
        with (
            socket.create_connection((host, int(port)), 5) as secret,
            trusting.wrap_socket(secret, server_hostname=host) as wrapped,
        ):
            assert wrapped.version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize(
    ("user", "topic"),
    [
        ("ingest", "training.model_trained.v1"),
        ("ingest", "registry.loop_state.v1"),
        ("training", "registry.loop_state.v1"),
    ],
)
async def test_a_forged_event_is_an_authorization_error_and_the_champion_stays(
    secured: Installation, tmp_path: Path, user: str, topic: str
) -> None:
    before = secured.status(LOOP)["champion"]
    config = client_file(secured.folder / "certs", user)
    settings = Settings(data=tmp_path, kafka_bootstrap=secured.services()["kafka"]["bootstrap"], kafka_config=config)
    producer = AIOKafkaProducer(**client_settings(settings, "forger"))
    await producer.start()

    with pytest.raises(TopicAuthorizationFailedError):
        await asyncio.wait_for(producer.send_and_wait(topic, json.dumps({"forged": True}).encode(), LOOP.encode()), 20)
    await producer.stop()

    assert secured.status(LOOP)["champion"]["version"] == before["version"]
