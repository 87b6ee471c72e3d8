"""up, down and kafka fetch, as a person meets them."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from everloop.cli import build
from everloop.local import launch, processes
from everloop.local.plan import InstallationPlan

pytestmark = pytest.mark.process

Maker = Callable[..., InstallationPlan]


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """A port that listens: enough of a cluster for services that never use it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def everloop(monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[..., Result]:
    monkeypatch.setenv("EVERLOOP_KAFKA_CONFIG", "client.properties")
    monkeypatch.setenv("EVERLOOP_DATA", str(home))
    return lambda *arguments: CliRunner().invoke(build(), list(arguments))


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, fake_plan: Maker) -> InstallationPlan:
    """Let `up` start fake services."""
    fake = fake_plan()

    def of(folder: Path, ports: dict[str, int], kafka: str | None) -> InstallationPlan:
        return replace(fake, folder=str(folder), ports=ports, kafka=kafka)

    monkeypatch.setattr(InstallationPlan, "of", of)
    return fake


def test_up_detached_returns_when_all_is_ready_and_down_leaves_nothing(
    everloop: Callable[..., Result], fakes: InstallationPlan, cluster: str, home: Path
) -> None:
    first = everloop("up", "--kafka", cluster, "--ports", "auto", "--detach", "--json")
    again = everloop("up", "--kafka", cluster, "--ports", "auto", "--detach")
    listed = json.loads(first.stdout)
    ready = [launch.is_ready(listed[service]["url"]) for service in fakes.ports]
    down, down_again = everloop("down"), everloop("down")

    assert (first.exit_code, again.exit_code, down.exit_code, down_again.exit_code) == (0, 0, 0, 0), first.output
    assert all(ready)
    assert "runs already" in again.output
    assert "is stopped" in down.output
    assert "No local installation runs" in down_again.output
    assert not (home / "services.json").exists()
    assert not processes.of_installation(home)


def test_up_names_the_service_that_does_not_become_ready_with_the_end_of_its_log(
    everloop: Callable[..., Result], fakes: InstallationPlan, cluster: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = (sys.executable, "-S", "-c", "raise SystemExit('the registry has no database')")
    monkeypatch.setitem(fakes.commands, "registry", broken)
    monkeypatch.setattr(launch, "GIVE_UP_AFTER_RESTARTS", 2)

    done = everloop("up", "--kafka", cluster, "--ports", "auto", "--detach")

    assert done.exit_code == 1
    assert "registry" in done.output
    assert "the registry has no database" in done.output
    assert not processes.of_installation(home)


def test_a_port_in_use_is_named_with_its_service(
    everloop: Callable[..., Result], cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = int(cluster.split(":")[1])

    done = everloop("up", "--kafka", cluster, "--ports", str(taken - 2), "--detach")

    assert done.exit_code == 1
    assert "in use" in done.output
    assert "--ports auto" in done.output


@pytest.mark.parametrize(
    "arguments",
    [
        ("--ports", "many"),
        ("--ports", "70000"),
        ("--kafka", "localhost"),
        ("--bus", "paper"),
        ("--bus", "memory", "--kafka", "127.0.0.1:9092"),
    ],
)
def test_wrong_use_exits_2(everloop: Callable[..., Result], arguments: tuple[str, ...]) -> None:
    assert everloop("up", *arguments).exit_code == 2


def test_a_cluster_that_does_not_answer_is_named(
    everloop: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = everloop("up", "--kafka", "127.0.0.1:1", "--detach")

    assert done.exit_code == 1
    assert "No Kafka answers at 127.0.0.1:1" in done.output


def test_a_folder_that_cannot_be_written_is_named(everloop: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    done = everloop("up", "--data", str(tmp_path / "file" / "installation"), "--detach")

    assert done.exit_code == 1
    assert "cannot be written" in done.output
    assert "--data" in done.output


def test_every_help_has_an_example(everloop: Callable[..., Result]) -> None:
    for command in (("up",), ("down",), ("kafka", "fetch")):
        assert "Example: everloop " in everloop(*command, "--help").output
