"""The client and the command against services with TLS: whom they trust, and where that is said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.builders.events import observation
from tests.builders.letters import letter_of
from tests.builders.loops import loop_spec, loop_state
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import run
from tests.everloop.test_watch_command import wait_until

from everloop import AsyncEverloop, Everloop, EverloopUnreachable
from everloop.certs.folder import ensure_certificates
from everloop.local.errors import InstallationError
from everloop.local.launch import is_ready
from everloop_schemas.ingest import EventReceived

pytestmark = pytest.mark.app
ROW = {"price": 1.0}


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedServices]:
    """Ingest, registry and monitoring with TLS, and the loop `market`."""
    folder = tmp_path_factory.mktemp("secured")
    ensure_certificates(folder / "certs")
    with served(folder, "ingest", "registry", "monitoring", certs=folder / "certs") as running:
        running.publish(loop_state(loop_spec(schema={"price": {"type": "number"}})))
        wait_until(lambda: _knows_the_loop(folder))
        yield running


def _knows_the_loop(folder: Path) -> bool:
    with Everloop(str(folder), retry_for=0) as client:
        return client.request("ingest", "GET", "/v1/loops/market").status_code == 200


def test_both_clients_and_the_command_trust_whom_services_json_names(secured: ServedServices) -> None:
    data = str(secured.folder)

    async def publish() -> None:
        async with AsyncEverloop(data) as client:
            await client.publish("market", ROW, id="async")

    with Everloop(data) as client:
        client.publish("market", ROW, id="sync")
    asyncio.run(publish())
    done = run("publish", "market", json.dumps(ROW), "--id", "command", "--data", data)

    assert done.exit_code == 0, done.stderr
    assert {event.id for event in secured.events(EventReceived.topic)} == {"sync", "async", "command"}
    assert is_ready(secured.urls["ingest"], data)
    assert not is_ready(secured.urls["ingest"])


def test_monitoring_gives_a_dead_letter_to_ingest_by_tls(secured: ServedServices) -> None:
    secured.publish(letter := letter_of(observation("letter", ROW)))
    path = f"/v1/dead-letters/{letter.id}"

    with Everloop(str(secured.folder)) as client:
        wait_until(lambda: client.request("monitoring", "GET", path).status_code == 200)
        sent = client.request("monitoring", "POST", f"{path}/send", b"{}")

    assert sent.json()["event"] == "letter", sent.text
    assert "letter" in {event.id for event in secured.events(EventReceived.topic)}


def test_elsewhere_the_environment_names_the_authority(
    secured: ServedServices, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    url, before = secured.urls["ingest"], len(secured.events(EventReceived.topic))

    with Everloop(ingest=url, retry_for=0) as client, pytest.raises(EverloopUnreachable, match="CERTIFICATE_VERIFY"):
        client.publish("market", ROW)
    monkeypatch.setenv("EVERLOOP_TLS_CA", str(secured.folder / "certs" / "ca.pem"))
    with Everloop(ingest=url, retry_for=0) as client:
        client.publish("market", ROW, id="elsewhere")

    assert len(secured.events(EventReceived.topic)) == before + 1


def test_a_file_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EVERLOOP_TLS_CA", str(tmp_path / "nowhere.pem"))

    with (
        Everloop(ingest="https://127.0.0.1:1", retry_for=0) as client,
        pytest.raises(InstallationError, match=r"nowhere\.pem: No such file.*\n.*everloop certs"),
    ):
        client.publish("market", ROW)
