"""A service as a real process: it starts, answers, drains on SIGTERM, and fails loudly."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from everloop_shared.process import MAX_SUSPENSION_S

pytestmark = pytest.mark.process
PROGRAM = Path(__file__).with_name("example_service.py")


class Running:
    """The process, its address and its log."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    def wait_until_ready(self) -> None:
        """Return when /readyz says so."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.02)
        raise AssertionError("it did not become ready")

    def ended(self) -> tuple[int, list[dict[str, object]]]:
        """The exit status and the log, after the end."""
        _, log = self.process.communicate(timeout=20)
        return self.process.returncode, [json.loads(line) for line in log.splitlines()]


@contextmanager
def service(environ: Mapping[str, str] | None = None, port: int | None = None) -> Iterator[Running]:
    """The service as a process on a free port."""
    if port is None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
    environment = {**os.environ, "EVERLOOP_INGEST_PORT": str(port), **(environ or {})}
    process = subprocess.Popen([sys.executable, str(PROGRAM)], stderr=subprocess.PIPE, text=True, env=environment)
    try:
        yield Running(process, port)
    finally:
        process.kill()
        process.communicate()


def test_a_service_answers_and_ends_with_status_0_on_sigterm() -> None:
    with service() as running:
        running.wait_until_ready()
        answers = {path: httpx.get(running.url + path) for path in ("/livez", "/readyz", "/metrics", "/docs")}
        running.process.send_signal(signal.SIGTERM)

        status, log = running.ended()

    assert {path: answer.status_code for path, answer in answers.items()} == dict.fromkeys(answers, 200)
    assert "python_info" in answers["/metrics"].text
    assert status == 0
    everybody = "EVERLOOP_AUTH is off: whoever reaches this address may do everything"
    assert [line["message"] for line in log] == ["listening", everybody, "ready", "stopped"]
    assert all(line["service"] == "ingest" for line in log)


def test_a_process_that_was_suspended_longer_than_its_session_ends() -> None:
    with service() as running:
        running.wait_until_ready()
        running.process.send_signal(signal.SIGSTOP)
        time.sleep(MAX_SUSPENSION_S + 1)  # the fault itself
        running.process.send_signal(signal.SIGCONT)

        assert running.process.wait(timeout=5) == os.EX_TEMPFAIL


def test_a_process_that_was_suspended_for_a_moment_goes_on() -> None:
    with service() as running:
        running.wait_until_ready()
        running.process.send_signal(signal.SIGSTOP)
        running.process.send_signal(signal.SIGCONT)

        running.wait_until_ready()
        assert running.process.poll() is None


def test_a_request_in_progress_is_answered_during_the_drain() -> None:
    answers: list[str] = []
    with service() as running:
        running.wait_until_ready()
        asking = threading.Thread(
            target=lambda: answers.append(
                httpx.post(
                    f"{running.url}/echo?wait=1000", content=b"hi", headers={"content-type": "application/json"}
                ).text
            )
        )
        asking.start()
        deadline = time.monotonic() + 10
        while "everloop_test_inside 1.0" not in httpx.get(f"{running.url}/metrics").text:
            assert time.monotonic() < deadline
        started = time.monotonic()
        running.process.send_signal(signal.SIGTERM)

        status, _ = running.ended()
        asking.join()

    assert answers == ["hi"]
    assert status == 0
    assert time.monotonic() - started < 10


def test_a_failed_job_ends_the_process_with_status_1_and_its_traceback_in_the_log() -> None:
    with service({"BREAK": "job"}) as running:
        status, log = running.ended()

    assert status == 1
    assert log[-1]["message"] == "stopped by a failure"
    assert "RuntimeError: the job broke" in str(log[-1]["exception"])


def test_a_failed_engine_ends_the_process_with_status_1() -> None:
    with service({"BREAK": "engine"}) as running:
        status, log = running.ended()

    assert status == 1
    assert "OSError: the engine broke" in str(log[-1]["exception"])


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"EVERLOOP_PARTITIONS": "many"}, ["EVERLOOP_INGEST_PARTITIONS", "'many'"]),
        ({"EVERLOOP_LOG_LEVEL": "LOUD"}, ["EVERLOOP_INGEST_LOG_LEVEL"]),
    ],
)
def test_a_wrong_setting_ends_the_process_with_status_2_and_its_name(environ: dict[str, str], words: list[str]) -> None:
    with service(environ) as running:
        _, stderr_text = running.process.communicate(timeout=20)

    assert running.process.returncode == 2
    assert all(word in stderr_text for word in words)
    assert "Traceback" not in stderr_text


def test_a_port_in_use_is_reported_with_the_variable_to_change() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with service(port=taken.getsockname()[1]) as running:
            _, stderr_text = running.process.communicate(timeout=20)

    assert running.process.returncode == 2
    assert "EVERLOOP_INGEST_PORT" in stderr_text.splitlines()[-1]
