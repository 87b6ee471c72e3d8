"""`everloop alerts` and `everloop silence`, against monitoring as it is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import uvicorn
from tests.builders.events import line_failed
from tests.http_apps import http_app
from tests.monitoring.monitoring_service import running, state
from typer.testing import CliRunner, Result

from everloop.cli import build
from everloop.local.ports import free_port
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = pytest.mark.app


async def everloop(*arguments: str) -> Result:
    """Run the command."""
    return await asyncio.to_thread(CliRunner().invoke, build(), [*arguments], prog_name="everloop")


@asynccontextmanager
async def monitoring_with_an_alert(folder: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """Monitoring on a port, where the command line finds it, with an alert about a line."""
    port = free_port()
    monkeypatch.setenv("EVERLOOP_MONITORING_URL", f"http://127.0.0.1:{port}")
    async with running(MemoryBroker(), folder) as monitoring:
        await monitoring.publish(state(), line_failed("logistic-0", id="f", state="restarted", offset=7))
        await monitoring.caught_up()
        app = http_app(monitoring.service)
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_config=None, lifespan="off"))
        served = asyncio.create_task(server.serve())
        await monitoring.until(lambda: server.started)
        try:
            yield
        finally:
            server.should_exit = True
            await served


async def test_open_alerts_are_shown_with_what_is_done_and_can_be_silenced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with monitoring_with_an_alert(tmp_path, monkeypatch):
        shown = await everloop("alerts", "market")
        made = await everloop(
            "silence", "market", "--for", "2h", "--kind", "line_failed", "--reason", "known", "--json"
        )
        silenced = await everloop("alerts", "market")
        listed = await everloop("silence", "market")
        ended = await everloop("silence", "market", "--end", json.loads(made.stdout)["id"])
        none = await everloop("silence", "market")
        history = await everloop("alerts", "market", "--all")

    assert (shown.exit_code, made.exit_code, ended.exit_code) == (0, 0, 0)
    assert "line_failed.logistic-0 (warning, firing)" in shown.stdout
    assert "Everloop: logistic-0 learns again without that outcome" in shown.stdout
    assert "line_failed.logistic-0 (warning, silenced)" in silenced.stdout
    assert "known" in listed.stdout
    assert none.stdout == ""
    assert "line_failed.logistic-0" in history.stdout


async def test_a_silence_that_is_refused_says_which_option_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with monitoring_with_an_alert(tmp_path, monkeypatch):
        soon = await everloop("silence", "market", "--for", "soon")
        nothing = await everloop("silence", "market", "--end", "nothing")

    assert (soon.exit_code, nothing.exit_code) == (1, 1)
    assert "for: " in soon.stderr
    assert "has no silence 'nothing'" in nothing.stderr
