"""Receivers are told of alerts in order and at least once; one that is away delays no other."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import line_failed, version_state
from tests.builders.loops import LOOP, loop_state
from tests.builders.running import until
from tests.databases import database_url
from tests.monitoring.http_receiver import HttpReceiver, http_receiver

from everloop_monitoring.adapters.receivers import alertmanager
from everloop_monitoring.adapters.receivers.config import ReceiverSpec
from everloop_monitoring.adapters.receivers.delivery import Delivery
from everloop_monitoring.adapters.receivers.senders import make_sender
from everloop_monitoring.adapters.unit_of_work import BatchUnitOfWork
from everloop_monitoring.app import MIGRATIONS
from everloop_monitoring.domain.silences import Silence
from everloop_schemas.envelope import Event
from everloop_schemas.monitoring import AlertRaised, AlertRaisedData
from everloop_schemas.serving import VersionState
from everloop_schemas.training import LineFailed
from everloop_shared.backoff import Backoff
from everloop_shared.database import Database
from everloop_shared.messaging.routes import Position

TIME = datetime(2026, 5, 1, 12, tzinfo=UTC)
QUICK = Backoff(0.01, 0.05)
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()


def alert(n: int, loop: str = "shop", **data: Any) -> AlertRaised:
    """The `n`-th alert of a test."""
    about = {"kind": "drift", "severity": "warning", "message": f"alert {n}", "alert": f"drift.{n}", "since": TIME}
    return AlertRaised(id=f"a{n}", time=TIME, subject="drift", loop=loop, data=AlertRaisedData(**about | data))


def webhook(name: str, receiver: HttpReceiver, **changes: Any) -> ReceiverSpec:
    """A receiver of the operator's file."""
    return ReceiverSpec.model_validate({"name": name, "webhook": {"url": f"{receiver.url}/hook"}} | changes)


@dataclass
class Telling:
    """The queue of receivers in a real database, and the job that delivers."""

    database: Database
    unit: BatchUnitOfWork

    async def queue(self, *alerts: AlertRaised) -> None:
        async with self.unit:
            await self.unit.handlers.alerting.store.queue_alerts(alerts)

    async def handle(self, *events: Event) -> None:
        """Handle records as one batch, after the state of their loop."""
        handlers, at = self.unit.handlers, Position("t", 0, 0)
        async with self.unit:
            await handlers.on_loop_state(loop_state(), at)
            for event in events:
                if isinstance(event, VersionState):
                    await handlers.on_version_state(event, at)
                else:
                    assert isinstance(event, LineFailed)
                    await handlers.on_line_failed(event, at)
            await self.unit.record([], {})

    async def look(self) -> None:
        """Look at the alerts, as monitoring does every few seconds."""
        async with self.unit:
            await self.unit.record(await self.unit.handlers.look_at_alerts(), {})

    @asynccontextmanager
    async def delivering(self, *specs: ReceiverSpec) -> AsyncIterator[Delivery]:
        senders = {spec.name: make_sender(spec, timedelta(hours=4)) for spec in specs}
        told = self.unit.handlers.alerting.list_told
        delivery = Delivery(specs, senders, self.database, self.unit, told, _caught_up, backoff=QUICK, poll_s=0.02)
        job = asyncio.ensure_future(delivery.run())
        try:
            yield delivery
        finally:
            job.cancel()
            with suppress(asyncio.CancelledError):
                await job


async def _caught_up(within_s: float) -> bool:
    return True


@asynccontextmanager
async def telling(folder: Path, *known: str) -> AsyncIterator[Telling]:
    """An empty queue, of which these receivers have taken everything."""
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(
            Database(database_url(folder), MIGRATIONS, schema="monitoring"),
        )
        unit = BatchUnitOfWork(database)
        async with unit:
            for name in known:
                insert = "INSERT INTO receivers (name, position) VALUES (?, 0)"
                text = insert.replace("?", "%s") if "postgres" in str(database.url) else insert
                await unit.connection.exec_driver_sql(text, (name,))
        yield Telling(database, unit)


def messages_of(receiver: HttpReceiver) -> list[list[str]]:
    return [[one["message"] for one in got.json["data"]["alerts"]] for got in receiver.received]


async def test_alerts_of_a_loop_are_told_together_and_in_order(tmp_path: Path, databases: object) -> None:
    with http_receiver() as receiver:
        async with telling(tmp_path, "hook") as told:
            await told.queue(alert(1), alert(2), alert(3, "other"), alert(4))
            async with told.delivering(webhook("hook", receiver)):
                await until(lambda: len(receiver.received) == 3)

    assert messages_of(receiver) == [["alert 1", "alert 2"], ["alert 3"], ["alert 4"]]


async def test_a_message_is_signed_as_standard_webhooks_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOK_SECRET", SECRET)
    with http_receiver() as receiver:
        spec = webhook("hook", receiver, webhook={"url": receiver.url, "secret": {"env": "HOOK_SECRET"}})
        async with telling(tmp_path, "hook") as told:
            await told.queue(alert(1))
            async with told.delivering(spec):
                await until(lambda: receiver.received)

    [got] = receiver.received
    signed = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(got.headers["webhook-timestamp"]) - datetime.now(UTC).timestamp()) < 60
    assert got.json["type"] == "everloop.alerts"


async def test_a_receiver_that_is_away_delays_no_other_and_gets_everything_later(tmp_path: Path) -> None:
    with http_receiver() as here, http_receiver() as away:
        away.answers = [503] * 3
        async with telling(tmp_path, "here", "away") as told:
            await told.queue(alert(1))
            async with told.delivering(webhook("away", away), webhook("here", here)) as delivery:
                await until(lambda: here.received)
                await until(lambda: delivery.remarks() or None)
                said = delivery.remarks()
                await until(lambda: len(away.received) == 4)
                await until(lambda: not delivery.remarks())

    assert said == ["receiver away is not told of alerts: answers 503"]
    assert len({got.headers["webhook-id"] for got in away.received}) == 1
    assert len(here.received) == 1


async def test_what_was_not_acknowledged_is_told_again_after_a_crash(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        async with telling(tmp_path, "hook") as told:
            await told.queue(alert(1), alert(2))
            receiver.open.clear()
            async with told.delivering(webhook("hook", receiver)):
                await until(lambda: receiver.received)
        receiver.open.set()
        async with telling(tmp_path) as told, told.delivering(webhook("hook", receiver)):
            await until(lambda: len(receiver.received) == 2)
            await told.queue(alert(3))
            await until(lambda: len(receiver.received) == 3)

    assert messages_of(receiver) == [["alert 1", "alert 2"], ["alert 1", "alert 2"], ["alert 3"]]
    assert receiver.received[0].headers["webhook-id"] == receiver.received[1].headers["webhook-id"]


async def test_a_message_that_is_refused_is_left_out_and_the_next_is_told(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        receiver.answers = [422] * 3
        async with telling(tmp_path, "hook") as told:
            await told.queue(alert(1), alert(2, "other"))
            async with told.delivering(webhook("hook", receiver)):
                await until(lambda: len(receiver.received) == 4)

    assert messages_of(receiver) == [["alert 1"]] * 3 + [["alert 2"]]


async def test_what_goes_on_is_told_once_and_what_is_silenced_once_that_ends(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        async with telling(tmp_path, "hook") as told, told.delivering(webhook("hook", receiver)):
            known = Silence("s", LOOP, datetime.now(UTC) + timedelta(hours=1), "known", "me", kind="line_failed")
            async with told.unit:
                await told.unit.handlers.alerting.store.add_silence(known)
            failed = [version_state("logistic-0@30", "failed", instance) for instance in ("one", "two")]
            again = [line_failed("logistic-0", id=f"f{n}") for n in range(3)]
            for event in (*failed, *again, *failed):
                await told.handle(event)
            await until(lambda: receiver.received)
            async with told.unit:
                await told.unit.handlers.alerting.store.end_silence(LOOP, "s")
            for _ in range(3):
                await told.look()
            await told.handle(*(version_state("logistic-0@30", "ready", instance) for instance in ("one", "two")))
            await until(lambda: "resolved" in str(receiver.received[-1].body))

    told_of = [(one["alert"], one["state"]) for got in receiver.received for one in got.json["data"]["alerts"]]
    assert told_of == [
        ("artifact.logistic-0@30", "firing"),
        ("line_failed.logistic-0", "firing"),
        ("artifact.logistic-0@30", "resolved"),
    ]


async def test_alertmanager_which_forgets_is_told_again_of_what_goes_on_until_that_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alertmanager, "RETOLD_EVERY_S", 0.02)
    with http_receiver() as receiver:
        spec = ReceiverSpec.model_validate({"name": "am", "alertmanager": {"url": receiver.url}})
        async with telling(tmp_path, "am") as told, told.delivering(spec):
            await told.handle(version_state("logistic-0@30", "failed"))
            await until(lambda: len(receiver.received) > 3)
            await told.handle(version_state("logistic-0@30", "ready"), line_failed("logistic-0"))
            await until(lambda: still_on(receiver)[-1] == {"line_failed.logistic-0"})
            ended = len(receiver.received)
            await until(lambda: len(receiver.received) > ended + 2)

    assert still_on(receiver)[:3] == [{"artifact.logistic-0@30"}] * 3
    assert still_on(receiver)[ended - 1 :] == [{"line_failed.logistic-0"}] * (len(receiver.received) - ended + 1)


def still_on(receiver: HttpReceiver) -> list[set[str]]:
    """The alerts that go on by each message to Alertmanager."""
    now = datetime.now(UTC).isoformat()
    return [{one["labels"]["alert"] for one in got.json if one["endsAt"] > now} for got in receiver.received]


async def test_a_redirect_is_not_followed(tmp_path: Path) -> None:
    with http_receiver() as receiver, http_receiver() as inside:
        receiver.answers, receiver.headers = [307], {"location": f"{inside.url}/secrets"}
        async with telling(tmp_path, "hook") as told:
            await told.queue(alert(1))
            async with told.delivering(webhook("hook", receiver)):
                await until(lambda: len(receiver.received) == 2)

    assert not inside.received


async def test_a_new_receiver_begins_with_the_next_alert_and_a_filter_with_what_it_takes(tmp_path: Path) -> None:
    with http_receiver() as receiver:
        spec = webhook("hook", receiver, loops=["shop*"], severity=["critical"])
        async with telling(tmp_path) as told:
            await told.queue(alert(1, severity="critical"))
            async with told.delivering(spec):
                await _until_stored(told, "hook")
                graver = {"severity": "critical"}
                await told.queue(alert(2), alert(3, "other", **graver), alert(4, "shop-2", **graver))
                await until(lambda: receiver.received)

    assert messages_of(receiver) == [["alert 4"]]


async def _until_stored(told: Telling, name: str) -> None:
    async with asyncio.timeout(20):
        while name not in await _receivers(told):
            await asyncio.sleep(0.01)


async def _receivers(told: Telling) -> Sequence[str]:
    async with told.database.reading() as reader:
        return [row.name for row in await reader.exec_driver_sql("SELECT name FROM receivers")]
