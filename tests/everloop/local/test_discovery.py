"""Where the addresses of an installation are found."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path

import pytest

from everloop.local import discovery
from everloop.local.discovery import data_folder, default_urls, find_installation, read_json, write_json
from everloop.local.errors import InstallationNotFound
from everloop.local.ports import HOST, is_free
from everloop_schemas.topology import SERVICES


@pytest.fixture(autouse=True)
def _bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for service in SERVICES:
        monkeypatch.delenv(f"EVERLOOP_{service.upper()}_URL", raising=False)
    monkeypatch.delenv("EVERLOOP_KAFKA_BOOTSTRAP", raising=False)
    monkeypatch.delenv("EVERLOOP_DATA", raising=False)
    monkeypatch.setattr(discovery, "default_urls", dict)  # whatever runs on this machine
    monkeypatch.chdir(tmp_path)


def listed(folder: Path) -> None:
    folder.mkdir()
    entries = {
        "kafka": {"bootstrap": "127.0.0.1:19092", "pid": 1},
        "ingest": {"url": "http://127.0.0.1:8001", "pid": 2},
    }
    write_json(folder / "services.json", entries)


def test_the_folder_is_named_by_hand_or_by_the_environment_or_is_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert data_folder() == tmp_path / ".everloop"
    monkeypatch.setenv("EVERLOOP_DATA", "/srv/everloop")
    assert data_folder() == Path("/srv/everloop")
    assert data_folder("here") == tmp_path / "here"


def test_the_doors_are_those_of_services_json(tmp_path: Path) -> None:
    listed(tmp_path / ".everloop")

    installation = find_installation()

    assert (installation.url("ingest"), installation.kafka()) == ("http://127.0.0.1:8001", "127.0.0.1:19092")
    assert installation.pids == {"kafka": 1, "ingest": 2}


def test_an_installation_elsewhere_is_named_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOOP_SERVING_URL", "https://serving.example/")
    monkeypatch.setenv("EVERLOOP_KAFKA_BOOTSTRAP", "broker:9092")

    installation = find_installation()

    assert (installation.url("serving"), installation.kafka()) == ("https://serving.example", "broker:9092")
    with pytest.raises(InstallationNotFound, match="EVERLOOP_REGISTRY_URL"):
        installation.url("registry")


def test_a_folder_named_by_hand_goes_before_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    listed(tmp_path / "here")
    monkeypatch.setenv("EVERLOOP_INGEST_URL", "https://elsewhere.example")

    assert find_installation("here").url("ingest") == "http://127.0.0.1:8001"


def test_no_installation_says_how_to_get_one() -> None:
    with pytest.raises(InstallationNotFound, match="everloop up"):
        find_installation()


def test_where_nothing_is_named_the_installation_is_at_the_usual_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"ingest": "http://127.0.0.1:8001"}
    monkeypatch.setattr(discovery, "default_urls", lambda: there)

    assert (find_installation().url("ingest"), find_installation().kafka()) == (there["ingest"], "127.0.0.1:9092")

    with pytest.raises(InstallationNotFound):
        find_installation("here")
    monkeypatch.setenv("EVERLOOP_DATA", "there")
    with pytest.raises(InstallationNotFound):
        find_installation()


def test_the_usual_ports_are_an_installation_only_when_all_six_are_open() -> None:
    with contextlib.ExitStack() as stack:
        base = next(b for b in range(20_000, 30_000, 10) if all(map(is_free, range(b, b + 6))))
        for port in range(base, base + 5):
            stack.enter_context(socket.create_server((HOST, port)))
        assert default_urls(base) == {}
        stack.enter_context(socket.create_server((HOST, base + 5)))

        urls = default_urls(base)

    assert (urls["ingest"], urls["monitoring"]) == (f"http://{HOST}:{base}", f"http://{HOST}:{base + 5}")


def test_a_torn_file_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text('{"ingest": {')

    assert read_json(tmp_path / "services.json") == {}
