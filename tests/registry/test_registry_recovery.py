"""The service after a restart, without its database or its broker, and with records that no registry wrote."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from msgspec.structs import replace
from tests.builders.events import evaluation_updated, run_requested
from tests.builders.metrics import metric_value
from tests.builders.running import until
from tests.databases import database_url
from tests.http_apps import http_app
from tests.registry.registry_harness import (
    LOOP_FILE,
    apply_file,
    count_handled,
    decided_types,
    dump,
    publish,
    registry,
    run_to_canary,
    store_model,
)

from everloop_registry.adapters.decision_store import RegistryUnitOfWork
from everloop_registry.adapters.recovery import TopicRecovery
from everloop_registry.app import build
from everloop_registry.errors import DecisionsInconsistent
from everloop_registry.metrics import LEFT_OUT_DECISIONS
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.registry import Decided, LoopResumed, LoopResumedData, ModelPromoted
from everloop_shared.database import Database
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import Headers, connected

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]
FORGED = {"version": "evil-0@1", "previous": "0", "reason": "a forger says so"}


async def test_a_database_that_is_gone_is_the_same_after_the_rebuild(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await apply_file(client)
        await run_to_canary(broker, first)
    published = len(decided_types(broker))

    broker.committed.clear()  # the group's offsets are gone as well: everything is consumed again
    async with registry(broker, second) as client:
        rebuilt = (await client.get("/market")).json()
        await publish(broker, run_requested("c-0"))
        await until(lambda: count_handled(broker, "training.run_requested.v1") == 2)

    assert len(decided_types(broker)) == published
    assert await dump(second) == await dump(first)
    assert rebuilt["candidate"]["version"] == "b-0@400"


async def test_a_restart_publishes_nothing_again_and_goes_on(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path)
    published = len(decided_types(broker))

    async with registry(broker, tmp_path) as client:
        restarted = len(decided_types(broker))
        await publish(broker, evaluation_updated(250, {"a-0@200": [0.5] * 50, "b-0@400": [0.5] * 50}))
        await until(lambda: len(decided_types(broker)) > published)
        rollout = (await client.get("/market/rollout")).json()

    assert restarted == published
    assert rollout["share"] == 0.5


async def test_a_decision_made_while_the_broker_is_away_is_503_and_published_later(tmp_path: Path) -> None:
    broker = Away()
    async with registry(broker, tmp_path) as client:
        broker.away = True
        answer = await apply_file(client)
        kept = (await client.get("/market")).json()["revision"]
        broker.away = False
        again = await apply_file(client)

    assert (answer.status_code, answer.headers["retry-after"], kept) == (503, "1", 1)
    assert (again.status_code, again.json()["revision"]) == (200, 1)
    assert decided_types(broker) == ["loop_applied"]


async def test_a_database_of_another_log_stops_the_start(tmp_path: Path) -> None:
    for broker in (one := MemoryBroker(), MemoryBroker()):
        async with registry(broker, tmp_path / str(id(broker))) as client:
            await apply_file(client)
    other = tmp_path / str(id(broker))

    with pytest.raises(Misconfigured, match="another log"):
        async with registry(one, other):
            pass


async def test_records_that_follow_from_no_decision_are_left_out_and_the_registry_starts(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await apply_file(client)
        await run_to_canary(broker, first)
        before = (await client.get("/market")).json()
    forged: list[dict[str, Any]] = [
        {"sequence": 11},  # leaves a gap
        {"sequence": 10, "type": ModelPromoted.type_name(), "data": FORGED},
        {"sequence": 10**18},
        {"sequence": 3, "time": "2020-01-01T00:00:00Z"},  # under the number of a true one
        {"sequence": 0, "loop": "nobody"},  # no spec
        {"sequence": 7, "loop": "x" * 1000},
    ]
    for change in forged:
        record = {**_a_decision(broker), **change}
        await broker.append(Decided.topic.name, record["loop"].encode(), json.dumps(record).encode())

    for folder in (first, second):
        async with registry(broker, folder) as client:
            after = (await client.get("/market")).json()
            left_out = metric_value(LEFT_OUT_DECISIONS)
            loops = (await client.get("")).json()["loops"]

        assert after == before
        assert left_out == 5
        assert [loop["loop"] for loop in loops] == ["market"]
    assert await dump(second) == await dump(first)


async def test_a_topic_that_has_lost_its_first_decisions_stops_the_start_of_an_empty_registry(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path / "one") as client:
        await apply_file(client)
        await apply_file(client, LOOP_FILE + "gate: {confidence: 0.99}\n")
    log = broker.log(Decided.topic.name, broker.partition_for(b"market"))
    log[0] = replace(log[0], value=b"what retention took")  # is left out of what is read, like a deleted offset

    with pytest.raises(DecisionsInconsistent, match="first records"):
        async with registry(broker, tmp_path / "two"):
            pass


@pytest.mark.parametrize("at", [0, 4, -1])
async def test_a_byte_that_was_changed_on_the_log_stops_a_rebuild_which_names_loop_and_decision(
    tmp_path: Path, at: int
) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path / "one") as client:
        await apply_file(client)
        await run_to_canary(broker, tmp_path / "one")
    before = await dump(tmp_path / "one")
    log = broker.log(Decided.topic.name, broker.partition_for(b"market"))
    sequence = json.loads(log[at].value or b"")["sequence"]
    log[at] = replace(log[at], value=(log[at].value or b"").replace(b'"revision":1', b'"revision":2', 1))

    async with Database(database_url(tmp_path / "one"), MIGRATIONS, schema="registry") as database:
        recovery = TopicRecovery(RegistryUnitOfWork(database), broker.engine, broker.partitions)
        async with connected(broker.engine("registry")) as engine:
            with pytest.raises(DecisionsInconsistent, match=f"market: decision {sequence} was altered"):
                await recovery.rebuild(engine)

    assert await dump(tmp_path / "one") == before


def _a_decision(broker: MemoryBroker) -> dict[str, Any]:
    """A resumption as the topic has it, with the head's hash."""
    last = broker.events(Decided.topic)[-1]
    resumed = LoopResumed(
        id="forged", time=last.time, subject="market", loop="market", sequence=0,
        prevhash=sha256(last.encode()).hexdigest(), data=LoopResumedData(reason="a forger's"),
    )  # fmt: skip
    body: dict[str, Any] = json.loads(resumed.encode())
    return body


async def test_before_the_topic_is_read_nothing_is_answered_or_decided(tmp_path: Path) -> None:
    service = build(RegistrySettings(data=tmp_path, database_url=database_url(tmp_path)), MemoryBroker().engine)
    transport = httpx.ASGITransport(app=http_app(service))

    async with httpx.AsyncClient(transport=transport, base_url="http://localhost/v1/loops") as client:
        answers = [await apply_file(client), await client.get("/market")]

    assert [a.status_code for a in answers] == [503, 503]
    assert all(a.headers["retry-after"] for a in answers)


class Away(MemoryBroker):
    """A broker that cannot be reached while it is away."""

    away = False

    async def append(self, topic: str, key: bytes, value: bytes | None, headers: Headers = ()) -> None:
        """Append one record, or fail as an unreachable broker does."""
        if self.away:
            raise Unavailable("the broker is away")
        await super().append(topic, key, value, headers)


async def test_decisions_of_an_earlier_release_keep_their_bytes_and_the_chain_goes_on_from_them(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await apply_file(client)
        await run_to_canary(broker, first)
        await publish(broker, store_model("b-0", 500, first / "artifacts"))
        await until(lambda: decided_types(broker)[-1] == "version_registered")
    log = broker.log(Decided.topic.name, broker.partition_for(b"market"))
    earlier, prevhash = list[bytes](), "0" * 64
    for i, record in enumerate(log):
        body = {**json.loads(record.value or b""), "prevhash": prevhash, "of_an_earlier_release": True}
        del body["actor"]
        body["data"].get("model", {}).get("manifest", {}).pop("format", None)
        earlier.append(json.dumps(body).encode())
        prevhash = sha256(earlier[-1]).hexdigest()
        log[i] = replace(record, value=earlier[-1])

    async with registry(broker, second) as client:
        await apply_file(client, LOOP_FILE + "gate: {confidence: 0.99}\n")
        history = (await client.get("/market/history")).json()["decisions"]

    assert [json.loads(wire) for wire in earlier] == history[:-1]
    assert history[-1]["prevhash"] == prevhash
