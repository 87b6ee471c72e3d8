"""Silences, by HTTP: receivers are not told of what is silenced, and are told when it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import line_failed, version_state
from tests.builders.loops import LOOP
from tests.databases import database_url
from tests.monitoring.monitoring_service import RunningMonitoring, running, state

from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.silences import MAX_SILENCES, Silence
from everloop_monitoring.tables import alert_queue
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.database import Database
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Position

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]
PATH = f"/v1/loops/{LOOP}/silences"
AT = Position("t", 0, 0)


async def test_a_silence_is_made_listed_shown_and_ended(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(), line_failed("logistic-0", id="f", state="restarted"))
        await monitoring.caught_up()
        body: dict[str, Any] = {"for": "2h", "kind": "line_failed", "reason": "known"}
        made = await monitoring.http.post(PATH, json=body)
        listed = await monitoring.get("silences")
        [shown] = await monitoring.get("alerts?state=open")
        ended = await monitoring.http.delete(f"{PATH}/{made.json()['id']}")
        again = await monitoring.http.delete(f"{PATH}/{made.json()['id']}")
        [after] = await monitoring.get("alerts?state=open")

    assert (made.status_code, ended.status_code, again.status_code) == (201, 200, 404)
    assert again.json()["code"] == "silence_not_found"
    assert listed == {"silences": [made.json()]}
    assert (made.json()["kind"], made.json()["alert"], made.json()["actor"]) == ("line_failed", None, "anonymous")
    assert (shown["data"]["silenced"], after["data"]["silenced"]) == (True, False)


@pytest.mark.parametrize(
    ("body", "status"),
    [({"for": "soon", "reason": "x"}, 422), ({"for": "1h"}, 422), ({"for": "1h", "reason": "x", "kind": "odd"}, 422)],
)
async def test_a_silence_that_is_not_valid_is_refused(tmp_path: Path, body: dict[str, str], status: int) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state())
        await known(monitoring)
        refused = await monitoring.http.post(PATH, json=body)
        unknown = await monitoring.http.post("/v1/loops/nobody/silences", json={"for": "1h", "reason": "x"})

    assert (refused.status_code, unknown.status_code) == (status, 404)


async def test_a_loop_has_a_bounded_number_of_silences(tmp_path: Path) -> None:
    async with running(MemoryBroker(), tmp_path) as monitoring:
        await monitoring.publish(state())
        await known(monitoring)
        body = {"for": "365d", "reason": "x"}
        answers = [await monitoring.http.post(PATH, json=body) for _ in range(MAX_SILENCES + 1)]

    assert [answer.status_code for answer in answers] == [201] * MAX_SILENCES + [409]
    until = datetime.fromisoformat(answers[0].json()["until"])
    assert until < datetime.now(UTC) + timedelta(days=30, minutes=1)


async def test_receivers_are_told_of_what_was_silenced_once_that_ends_and_of_the_end_of_what_they_know(
    tmp_path: Path,
) -> None:
    now = datetime(2026, 5, 1, tzinfo=UTC)
    async with Database(database_url(tmp_path), MIGRATIONS, schema="monitoring") as database:
        unit = BatchUnitOfWork(database, clock=lambda: now)

        async def handle(*events: Event) -> None:
            async with unit:
                await unit.handlers.on_loop_state(state(), AT)
                for event in events:
                    await unit.handlers.on_version_state(event, AT)  # type: ignore[arg-type]
                await unit.record([], {})

        async def look() -> Sequence[str]:
            async with unit:
                await unit.record(await unit.handlers.look_at_alerts(), {})
            return await told(database)

        silence = Silence("s", LOOP, now + timedelta(hours=1), "known", "me", kind="artifact")
        async with unit:
            await unit.handlers.alerting.store.add_silence(silence)
        await handle(version_state("logistic-0@30", "failed"))
        silent = await look()
        now += timedelta(hours=1)
        first = await look()
        now += timedelta(hours=3)
        between = await look()
        now += timedelta(hours=1)
        repeated = await look()
        await handle(version_state("logistic-0@30", "ready"))

        assert (silent, first, between) == ([], ["firing"], ["firing"])
        assert repeated == ["firing", "firing"]
        assert await told(database) == ["firing", "firing", "resolved"]


async def known(monitoring: RunningMonitoring) -> None:
    """Wait until the loop is known."""
    async with asyncio.timeout(20):
        while (await monitoring.http.get(PATH)).status_code != 200:
            await asyncio.sleep(0.01)


async def told(database: Database) -> Sequence[str]:
    """The states in the queue of receivers, in order."""
    async with database.reading() as reader:
        rows = await reader.execute(alert_queue.select().order_by(alert_queue.c.seq))
        return [AlertRaised.decode(row.event.encode()).data.state for row in rows]
