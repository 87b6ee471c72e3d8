"""`GET /v1/loops/{loop}/data-set`: its forms, its limits, and what it refuses."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message
from tests.builders.running import http_client, until
from tests.training.training_harness import START, RunningTraining, event, running_training, state

from everloop_learning.data_set import Row
from everloop_schemas.envelope import Topic
from everloop_shared.errors import Unavailable
from everloop_shared.messaging.memory import MemoryBroker, MemoryEngine
from everloop_training.api.data_set_response import DataSetResponse
from everloop_training.domain.data_set_selection import Selection
from everloop_training.ports import StoredDataSet

pytestmark = pytest.mark.app

URL = "/v1/loops/market/data-set"
NDJSON, ARROW = {"accept": "application/x-ndjson"}, {"accept": "application/vnd.apache.arrow.stream"}


@asynccontextmanager
async def learned(tmp_path: Path, number: int = 40, **settings: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the service, which has learned so many outcomes."""
    broker = MemoryBroker(partitions=1)
    async with running_training(broker, tmp_path, **settings) as training, http_client(training.service) as client:
        await publish(training, number)
        yield client


async def publish(training: RunningTraining, number: int) -> None:
    await training.publish(state(), *[event(i, features={"a": i / 7, "b": None, "c": f"é{i}"}) for i in range(number)])
    await training.wait_until_learned(number - 1)


async def test_the_rows_are_lines_of_json_after_one_that_describes_them(tmp_path: Path) -> None:
    async with learned(tmp_path) as client:
        answer = await client.get(URL, params={"start": 10, "end": 19, "revision": 1}, headers=NDJSON)

        first, *lines = answer.content.splitlines(keepends=True)
        about = json.loads(first)["data_set"]
        assert about == {
            "name": "market@10..19#1",
            "loop": "market",
            "start": 10,
            "end": 19,
            "revision": 1,
            "digest": sha256(b"".join(lines)).hexdigest(),
            "rows": 10,
            "features": {"a": "number", "b": "number", "c": "string"},
            "label": "boolean",
            "erased": 0,
        }
        assert [Row.decode(line).offset for line in lines] == [*range(10, 20)]
        assert json.loads(lines[0])["features"] == {"a": 10 / 7, "b": None, "c": "é10"}
        assert answer.headers["everloop-data-set"] == "market@10..19#1"
        assert answer.headers["everloop-digest"] == f"sha256={about['digest']}"
        assert (answer.headers["everloop-rows"], answer.headers["content-type"]) == ("10", "application/x-ndjson")


async def test_arrow_holds_the_same_rows_and_says_the_same_of_them(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    async with learned(tmp_path) as client:
        about = (await client.get(URL, params={"last": 12}, headers={"accept": "application/json"})).json()
        answer = await client.get(URL, params={"last": 12}, headers=ARROW)

        table = pa.ipc.open_stream(answer.content).read_all()
        metadata = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
        assert metadata["everloop.name"] == about["name"] == "market@28..39#1"
        assert metadata["everloop.digest"] == about["digest"]
        assert table.column_names == ["offset", "time", "prediction_id", "a", "b", "c", "label"]
        assert [str(t) for t in table.schema.types] == [
            "int64",
            "timestamp[us, tz=UTC]",
            "string",
            "double",
            "double",
            "string",
            "bool",
        ]
        assert table["prediction_id"].to_pylist() == [f"p{i}" for i in range(28, 40)]
        assert table["b"].null_count == 12


async def test_a_range_of_time_is_one_of_offsets(tmp_path: Path) -> None:
    async with learned(tmp_path) as client:
        since, until = START + timedelta(minutes=5), START + timedelta(minutes=9)
        times = f"from={since.isoformat()}&to={until.isoformat().replace('+00:00', 'Z')}"

        answer = await client.get(f"{URL}?{times}", headers={"accept": "application/json"})
        whole = await client.get(URL, headers={"accept": "application/json"})

        assert answer.json()["name"] == "market@5..8#1"
        assert whole.json()["name"] == "market@0..39#1"


async def test_it_is_compressed_for_who_accepts_that(tmp_path: Path) -> None:
    async with learned(tmp_path) as client:
        plain = await client.get(URL, headers={**NDJSON, "accept-encoding": "identity"})
        async with client.stream("GET", URL, headers={**NDJSON, "accept-encoding": "gzip"}) as answer:
            body = b"".join([chunk async for chunk in answer.aiter_raw()])

        assert answer.headers["content-encoding"] == "gzip"
        assert gzip.decompress(body) == plain.content
        assert (await client.head(URL)).headers["everloop-rows"] == "40"


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("start=5&end=3", 422, "start"),
        ("start=0&end=40", 422, "end"),
        ("start=-1", 422, "start"),
        ("last=0", 422, "last"),
        ("last=21", 422, "last"),
        ("", 422, "last"),
        ("last=3&start=1", 422, "last"),
        ("start=1&from=2026-01-01T00:00:00Z", 422, "from"),
        ("from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", 422, "from"),
        ("from=2026-01-02", 422, "from"),
        ("start=0&end=3&revision=9", 422, "revision"),
        ("revision=1", 422, "revision"),
        ("from=2126-01-02T00:00:00Z", 404, None),
        ("start=99", 404, None),
    ],
)
async def test_a_request_that_names_no_data_set_is_told_the_field_and_the_fix(
    tmp_path: Path, query: str, status: int, field: str | None
) -> None:
    async with learned(tmp_path, data_set_rows=20) as client:
        answer = await client.get(f"{URL}?{query}", headers=NDJSON)

        assert answer.status_code == status, answer.text
        assert [e["field"] for e in answer.json().get("errors", [])] == ([field] if field else [])


async def test_an_unknown_loop_is_not_found(tmp_path: Path) -> None:
    async with learned(tmp_path) as client:
        assert (await client.get("/v1/loops/nothing/data-set")).status_code == 404


async def test_rows_of_more_bytes_than_the_limit_are_refused(tmp_path: Path) -> None:
    async with learned(tmp_path, data_set_bytes=1_000) as client:
        answer = await client.get(URL)

        assert answer.status_code == 422
        assert "1,000 bytes" in answer.json()["errors"][0]["error"]


class StuckEngine(MemoryEngine):
    """An engine whose log does not answer, or says that the broker is away."""

    away = False
    stuck = False

    async def begin_offset(self, topic: Topic, partition: int) -> int:
        """Fail, or wait for ever."""
        if self.away:
            raise Unavailable("Kafka does not answer")
        if self.stuck:
            await asyncio.Event().wait()
        return await super().begin_offset(topic, partition)


async def test_it_is_unavailable_while_the_broker_is_away_and_refuses_too_many_and_too_slow_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(MemoryBroker, "engine", lambda broker, service: StuckEngine(broker, service))
    async with learned(tmp_path, data_set_seconds=0.3, data_set_readers=1) as client:
        monkeypatch.setattr(StuckEngine, "away", True)
        away = await client.get(URL)
        monkeypatch.setattr(StuckEngine, "away", False)
        monkeypatch.setattr(StuckEngine, "stuck", True)
        answers = await asyncio.gather(*[client.get(URL) for _ in range(3)])
        monkeypatch.setattr(StuckEngine, "stuck", False)
        again = await client.get(URL)

        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
        assert sorted(a.status_code for a in answers) == [429, 429, 504]
        assert again.status_code == 200


class NeverRead:
    """A store whose log never answers."""

    reading = False

    @asynccontextmanager
    async def open(self, loop: str, selection: Selection) -> AsyncIterator[StoredDataSet]:
        """Read until the reader has left."""
        self.reading = True
        try:
            await asyncio.Event().wait()
            raise AssertionError
            yield
        finally:
            self.reading = False


async def test_a_data_set_is_not_read_on_once_its_reader_has_left() -> None:
    store, left = NeverRead(), asyncio.Event()
    messages = iter([{"type": "http.request"}, {"type": "http.disconnect"}])

    async def receive() -> Message:
        message = next(messages)
        if message["type"] == "http.disconnect":
            await left.wait()
        return message

    async def send(message: Message) -> None:
        raise AssertionError

    response = DataSetResponse(store, "market", Selection(), "")
    answering = asyncio.create_task(response({"type": "http", "headers": []}, receive, send))
    await until(lambda: store.reading)
    left.set()
    await asyncio.wait_for(answering, 10)

    assert not store.reading
