"""Windows that serving does not have in memory: read from feature in time, or empty, and the record says which."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.builders import events
from tests.builders.metrics import metric_value
from tests.builders.running import run_until_exit
from tests.serving.conftest import RunningServing

from everloop_feature.app import build as build_feature
from everloop_feature.settings import FeatureSettings
from everloop_schemas.serving import WindowsUsed
from everloop_serving import metrics
from everloop_serving.adapters import entity_reader
from everloop_serving.adapters.entity_reader import AWAY_S, FAILURES_IN_A_ROW, Circuit
from everloop_shared.http.endpoint import HttpEndpoint
from everloop_shared.messaging.keyed.expiry import keyed_on

NOT_HERE = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}"
THREE = b'{"applied":3,"state":{"ring":{"price":[2.0,4.0]}},"revision":1}'
FOUND = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(THREE), THREE)


@asynccontextmanager
async def running_feature(serving: RunningServing, **settings: Any) -> AsyncIterator[str]:
    """The feature service on serving's broker, by its URL."""
    own, connect = FeatureSettings(data=serving.folder, port=0, **settings), serving.broker.engine
    service = build_feature(own, connect, keyed_on(connect, own.partitions, interval_s=0.02))
    async with run_until_exit(service):
        [endpoint] = service.endpoints
        assert isinstance(endpoint, HttpEndpoint)
        yield f"http://127.0.0.1:{endpoint.port}"


@asynccontextmanager
async def answering(answer: Callable[[asyncio.StreamWriter], Awaitable[None]]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that answers every request so, by its URL, and the paths that were asked for."""
    paths: list[str] = []
    serving: set[asyncio.Task[Any] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                paths.append(head.split()[1].decode())
                await answer(writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", paths
    finally:
        server.close()
        for task in filter(None, serving):
            task.cancel()


async def _say_nothing(writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def _find(writer: asyncio.StreamWriter) -> None:
    writer.write(FOUND)


async def used(serving: RunningServing, prediction_id: str) -> WindowsUsed | None:
    """The windows that a record on the bus names."""
    found = await serving.until(lambda: [p for p in serving.predictions() if p.subject == prediction_id])
    windows: WindowsUsed | None = found[0].data.windows
    return windows


async def start_with_room_for_one(serving: RunningServing, feature_url: str, **settings: Any) -> None:
    """Start serving so that the state of one entity only is in memory, and the topic is longer than that."""
    await serving.publish(
        serving.state(), serving.entity_state("other", 1, [9.0]), serving.entity_state("other", 2, [])
    )
    await serving.start(feature_url=feature_url, entity_states=1, **settings)


async def test_a_state_that_was_evicted_is_read_from_feature_and_the_record_says_so(serving: RunningServing) -> None:
    await serving.publish(serving.state())
    async with running_feature(serving) as url:
        await serving.start(feature_url=url, entity_states=1, entity_read_ms=1000)
        for number, entity in enumerate(("shop", "shop", "other")):
            await serving.publish(events.observation(f"o{number}", {"price": 2.0, "demand": 0.5}, entity))
        await serving.until(lambda: len(serving.predictions()) == 3)
        await serving.predict("z", price=5.0, entity="other")  # the last one in memory from now on

        first = (await serving.predict("a", price=5.0, entity="shop")).json()
        second = (await serving.predict("b", price=5.0, entity="shop")).json()
        new = (await serving.predict("c", price=7.0, entity="nobody knows/ä?")).json()

        means = [answer["features"]["price_mean"] for answer in (first, second, new)]
        assert means == [3.0, 4.0, 7.0]
        assert await used(serving, "o1") == WindowsUsed(applied=1, source="stream")
        assert await used(serving, "a") == WindowsUsed(applied=2, source="feature")
        assert (await used(serving, "b") or WindowsUsed(applied=0, source="new")).applied >= 2
        assert await used(serving, "c") == WindowsUsed(applied=0, source="new")


async def test_where_all_states_fit_in_memory_nothing_is_read(serving: RunningServing) -> None:
    async with answering(_say_nothing) as (url, paths):
        await serving.publish(serving.state(), serving.entity_state("shop", 2, [1.0, 3.0]))
        await serving.start(feature_url=url)

        await serving.predict("a", price=5.0, entity="shop")
        await serving.predict("b", price=5.0, entity="shop")
        await serving.predict("c", price=5.0, entity="new")

    assert [await used(serving, i) for i in "abc"] == [
        WindowsUsed(applied=2, source="memory"),
        WindowsUsed(applied=2, source="memory", previous="a"),
        WindowsUsed(applied=0, source="new"),
    ]
    assert paths == []


async def test_requests_that_miss_one_entity_share_one_read_and_follow_each_other(serving: RunningServing) -> None:
    asked, answer_now = asyncio.Event(), asyncio.Event()

    async def find_later(writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer_now.wait()
        writer.write(FOUND)

    async with answering(find_later) as (url, paths):
        await start_with_room_for_one(serving, url, entity_read_ms=5_000)
        waiting = [asyncio.create_task(serving.predict(i, price=6.0, entity="shop")) for i in "abc"]
        await asked.wait()
        answer_now.set()
        answers = [(await answer).json()["features"]["price_mean"] for answer in waiting]

    chain = [await used(serving, i) for i in "abc"]
    assert paths == ["/v1/loops/market/entities/shop"]
    assert answers == [4.0, pytest.approx(16 / 3), 6.0]
    assert [w and (w.applied, w.source, w.previous) for w in chain] == [
        (3, "feature", None), (3, "memory", "a"), (3, "memory", "b")
    ]  # fmt: skip


async def test_without_an_answer_in_time_windows_start_empty_and_soon_nobody_waits(
    serving: RunningServing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(entity_reader, "AWAY_S", 60.0)
    async with answering(_say_nothing) as (url, paths):
        await start_with_room_for_one(serving, url, entity_read_ms=50)
        timeouts = metric_value(metrics.ENTITY_READS.labels("timeout"))

        for number in range(FAILURES_IN_A_ROW):
            assert (await serving.predict(f"slow{number}", price=5.0, entity=f"e{number}")).status_code == 200
        answers = [await serving.predict(f"fast{number}", price=5.0, entity=f"f{number}") for number in range(5)]

    assert {answer.status_code for answer in answers} == {200}
    assert metric_value(metrics.ENTITY_READS.labels("timeout")) - timeouts == FAILURES_IN_A_ROW
    assert len(paths) == FAILURES_IN_A_ROW
    assert await used(serving, "slow0") == WindowsUsed(applied=0, source="unread")
    assert await used(serving, "fast4") == WindowsUsed(applied=0, source="unread")


@pytest.mark.parametrize(
    "body",
    [
        b"<html>", b"[]", b'{"applied": "x", "state": {}, "revision": 1}', b"\xff\xfe", b"", b"[" * 50_000,
        b'{"applied": 1, "state": {"ring": 5}, "revision": 1}', bytes(entity_reader.MOST_BYTES + 1),
    ],
)  # fmt: skip
async def test_an_answer_of_feature_that_is_no_state_is_not_used(serving: RunningServing, body: bytes) -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async with answering(say) as (url, _):
        await start_with_room_for_one(serving, url, entity_read_ms=5_000)

        answer = await serving.predict("odd", price=5.0, entity="e1")

    assert answer.status_code == 200
    assert await used(serving, "odd") == WindowsUsed(applied=0, source="unread")


async def test_a_state_that_was_unread_is_read_for_the_next_request(serving: RunningServing) -> None:
    found: list[bool] = []

    async def find_the_second_time(writer: asyncio.StreamWriter) -> None:
        found.append(True)
        if len(found) > 1:
            writer.write(FOUND)

    async with answering(find_the_second_time) as (url, _):
        await start_with_room_for_one(serving, url, entity_read_ms=200)
        unread = (await serving.predict("a", price=6.0, entity="shop")).json()
        read = (await serving.predict("b", price=6.0, entity="shop")).json()

    assert [answer["features"]["price_mean"] for answer in (unread, read)] == [6.0, 4.0]
    assert await used(serving, "a") == WindowsUsed(applied=0, source="unread")
    assert await used(serving, "b") == WindowsUsed(applied=3, source="feature")


async def test_a_feature_service_that_is_not_there_costs_a_request_no_time(serving: RunningServing) -> None:
    async with answering(_find) as (url, _):
        pass
    await start_with_room_for_one(serving, url, entity_read_ms=10_000)

    began = time.monotonic()
    answer = await serving.predict("a", price=5.0, entity="shop")

    assert answer.status_code == 200
    assert time.monotonic() - began < 5.0
    assert await used(serving, "a") == WindowsUsed(applied=0, source="unread")


async def test_the_replica_that_has_the_entity_is_asked_first_the_next_time(serving: RunningServing) -> None:
    async def refuse(writer: asyncio.StreamWriter) -> None:
        writer.write(NOT_HERE)

    async with answering(refuse) as (other, asked_other), answering(_find) as (owner, asked_owner):
        await start_with_room_for_one(serving, f"{other}, {owner}")
        await serving.predict("a", price=6.0, entity="shop")
        await serving.predict("z", price=6.0, entity="third")  # the last one in memory from now on
        await serving.predict("b", price=6.0, entity="shop")

    assert [w and w.source for w in (await used(serving, "a"), await used(serving, "b"))] == ["feature", "feature"]
    assert (len([p for p in asked_other if "shop" in p]), len([p for p in asked_owner if "shop" in p])) == (1, 2)


async def test_a_replica_that_is_gone_keeps_nobody_from_the_one_that_has_its_partitions_now(
    serving: RunningServing,
) -> None:
    async with answering(_find) as (gone, _):
        pass  # nobody listens there any more, as after a scale down
    async with answering(_find) as (owner, asked):
        await start_with_room_for_one(serving, f"{gone}, {owner}")
        await serving.predict("a", price=6.0, entity="shop")
        await serving.predict("z", price=6.0, entity="third")
        await serving.predict("b", price=6.0, entity="shop")

    assert [w and w.source for w in (await used(serving, "a"), await used(serving, "b"))] == ["feature", "feature"]
    assert len([p for p in asked if "shop" in p]) == 2


async def test_at_a_start_only_the_latest_states_of_the_topic_are_read(serving: RunningServing) -> None:
    async with answering(_find) as (url, paths):
        await serving.publish(serving.state())
        for number in range(300):
            await serving.publish(serving.entity_state("shop", number, [1.0, 3.0]))
        await serving.start(feature_url=url, entity_states=5)
        await serving.predict("a", price=5.0, entity="shop")
        await serving.predict("b", price=5.0, entity="of long ago")

    assert await used(serving, "a") == WindowsUsed(applied=299, source="memory")
    assert await used(serving, "b") == WindowsUsed(applied=3, source="feature")
    assert len(paths) == 1


def test_while_a_service_is_away_one_caller_a_second_asks_it() -> None:
    now = [0.0]
    circuit = Circuit(lambda: now[0])

    circuit.report_failure(certain=True)
    closed = [circuit.may_ask() for _ in range(3)]
    now[0] += AWAY_S
    again = [circuit.may_ask() for _ in range(3)]
    circuit.report_answer()

    assert (closed, again, circuit.may_ask()) == ([False] * 3, [True, False, False], True)
