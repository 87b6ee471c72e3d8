"""The supervisor keeps its processes running, lists them in services.json, and leaves none behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.processes import runs

from everloop.local import folder_lock, processes
from everloop.local.discovery import find_installation, read_json
from everloop.local.errors import InstallationRunsAlready
from everloop.local.kafka import answers
from everloop.local.launch import is_ready
from everloop.local.plan import InstallationPlan
from everloop.local.supervisor import RESTART_BACKOFF, Supervisor, failures_in_a_row

pytestmark = pytest.mark.process

Maker = Callable[..., InstallationPlan]


@contextlib.asynccontextmanager
async def running(plan: InstallationPlan) -> AsyncIterator[Supervisor]:
    """Run a supervisor inside the test."""
    supervisor = Supervisor(plan)
    running = asyncio.ensure_future(supervisor.run())
    try:
        yield supervisor
    finally:
        supervisor.stopping.set()
        await running


async def until(condition: Callable[[], object], within_s: float = 10.0) -> None:
    """Await a condition; fails at the deadline."""
    deadline = time.monotonic() + within_s
    while not await asyncio.to_thread(condition):
        assert time.monotonic() < deadline, "the condition did not come true in time"
        await asyncio.sleep(0.02)


def listed(plan: InstallationPlan) -> dict[str, Any]:
    return read_json(plan.home / "services.json")


def all_ready(plan: InstallationPlan) -> bool:
    entries = listed(plan)
    return all(is_ready(entries.get(service, {}).get("url")) for service in plan.ports)


def environment(plan: InstallationPlan, service: str) -> dict[str, Any]:
    with urllib.request.urlopen(plan.url(service), timeout=5) as answer:
        return dict(json.load(answer))


async def test_a_service_finds_its_folder_its_broker_and_its_address(fake_plan: Maker) -> None:
    plan = fake_plan()

    async with running(plan):
        await until(lambda: all_ready(plan))
        found = await asyncio.to_thread(environment, plan, "training")

    found.pop("worker")
    assert found == {
        "EVERLOOP_DATA": plan.folder,
        "EVERLOOP_KAFKA_BOOTSTRAP": "127.0.0.1:9",
        "EVERLOOP_HOST": "127.0.0.1",
    }


async def test_services_json_names_every_address_and_is_removed_with_the_installation(fake_plan: Maker) -> None:
    plan = fake_plan("ingest", "serving")

    async with running(plan):
        await until(lambda: all_ready(plan))
        entries = listed(plan)
        installation = find_installation(plan.folder)

    assert entries["kafka"] == {"bootstrap": "127.0.0.1:9", "pid": None}
    assert entries["supervisor"] == {"pid": os.getpid()}
    assert installation.url("serving") == plan.url("serving")
    assert not (plan.home / "services.json").exists()
    assert not any(runs(entries[name]["pid"]) for name in ("ingest", "serving"))


async def test_a_killed_service_starts_again_on_its_port_without_its_old_workers(fake_plan: Maker) -> None:
    plan = fake_plan("ingest", "training")

    async with running(plan):
        await until(lambda: all_ready(plan))
        before = listed(plan)
        worker = (await asyncio.to_thread(environment, plan, "training"))["worker"]
        os.kill(before["training"]["pid"], signal.SIGKILL)
        await until(lambda: listed(plan)["training"]["pid"] != before["training"]["pid"] and all_ready(plan))
        after = listed(plan)

    assert after["training"]["url"] == before["training"]["url"]
    assert after["training"]["restarts"] == 1
    assert after["ingest"] == before["ingest"]
    assert not runs(worker)


async def test_one_supervisor_per_folder(fake_plan: Maker, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = fake_plan("ingest")
    monkeypatch.setattr(folder_lock, "LOCK_WAIT_S", 0.1)

    async with running(plan):
        await until(lambda: all_ready(plan))
        assert folder_lock.holder(plan.home) == os.getpid()
        with pytest.raises(InstallationRunsAlready):
            await Supervisor(plan).run()
        assert all_ready(plan)

    assert folder_lock.holder(plan.home) is None


async def test_children_die_with_a_killed_supervisor_and_the_folder_is_free(fake_plan: Maker) -> None:
    plan = fake_plan("ingest", "training")
    command = (sys.executable, "-m", "everloop.local.supervisor", plan.to_json())
    process = processes.spawn(command, plan.log("supervisor"), plan.environment(), session=True)
    await until(lambda: all_ready(plan))
    children = [listed(plan)[name]["pid"] for name in plan.ports]

    process.kill()
    process.wait()

    if sys.platform == "linux":
        await until(lambda: not any(runs(pid) for pid in children))
    assert folder_lock.holder(plan.home) is None
    async with running(plan):  # ends what the killed one left, and takes the same ports
        await until(lambda: all_ready(plan))


async def test_orphans_of_an_earlier_installation_are_ended_before_a_new_one_starts(fake_plan: Maker) -> None:
    plan = fake_plan("ingest")
    pause = (sys.executable, "-c", "import signal; signal.pause()")
    shell = {**os.environ, "EVERLOOP_DATA": plan.folder}
    with (
        subprocess.Popen(pause, env=plan.environment()) as orphan,
        subprocess.Popen(pause, env=shell) as other,
    ):
        await until(lambda: processes.of_installation(plan.home))

        async with running(plan):
            await until(lambda: all_ready(plan))
            assert not runs(orphan.pid)
            assert runs(other.pid)  # a user's own program, in a shell that names the folder

        other.kill()


async def test_a_process_that_does_not_listen_to_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN); print('stubborn', end='', flush=True); signal.pause()"
    process = processes.spawn((sys.executable, "-c", stubborn), tmp_path / "stubborn.log")
    await until(lambda: (tmp_path / "stubborn.log").read_text() == "stubborn")

    await processes.end(process, within_s=0.2)

    assert process.returncode == -signal.SIGKILL


def test_restarts_back_off_and_start_anew_after_a_healthy_run() -> None:
    delays, failures = [], 0
    for _ in range(8):
        failures = failures_in_a_row(failures, 1)
        delays.append(RESTART_BACKOFF.pause_s(failures))

    assert delays == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10.0, 10.0]
    assert RESTART_BACKOFF.pause_s(failures_in_a_row(failures, 31)) == 0.2


def test_a_long_log_is_put_aside_and_its_writer_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "ROTATE_ABOVE_BYTES", 10)
    log = tmp_path / "ingest.log"

    with log.open("a", buffering=1) as writer:
        writer.write("older lines\n")
        processes.rotate(log)
        writer.write("newer line\n")

    assert log.read_text() == "newer line\n"
    assert (tmp_path / "ingest.log.1").read_text() == "older lines\n"


@pytest.mark.kafka
async def test_a_killed_broker_comes_back_on_its_port_and_ends_with_the_installation(fake_plan: Maker) -> None:
    plan = replace(fake_plan("ingest"), kafka=None)

    async with running(plan):
        await until(lambda: all_ready(plan), within_s=40)
        before = listed(plan)["kafka"]
        os.kill(before["pid"], signal.SIGKILL)
        await until(lambda: listed(plan)["kafka"]["pid"] != before["pid"])
        async with asyncio.timeout(40):
            await answers(before["bootstrap"])
        after = listed(plan)["kafka"]

    assert after["bootstrap"] == before["bootstrap"]
    assert not runs(after["pid"])
