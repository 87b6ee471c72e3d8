"""The whole service over the memory broker, on SQLite and on PostgreSQL: endpoint, chain, as-of, rebuild."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.events import challenge_updated, drift_detected, evaluation_updated, run_requested, version_state
from tests.builders.running import until
from tests.databases import database_url
from tests.http_apps import http_app
from tests.registry.registry_harness import LOOP_FILE, registry, stored

from everloop_registry.adapters.loop_reader import SqlLoopReader
from everloop_registry.app import build
from everloop_registry.errors import DecisionsInconsistent
from everloop_registry.metrics import LEFT_OUT_DECISIONS
from everloop_registry.settings import RegistrySettings
from everloop_registry.tables import MIGRATIONS
from everloop_schemas.envelope import Event
from everloop_schemas.registry import Decided, LoopResumed, LoopResumedData, LoopState, ModelPromoted
from everloop_shared.database import Database
from everloop_shared.errors import Misconfigured, Unavailable
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]
YAML = {"content-type": "application/yaml"}
EVIL = {"version": "evil-0@1", "previous": "0", "reason": "a forger says so"}
WON, LOST = [0.0, 1.0] * 100, [1.0, 1.0] * 100


async def put(client: httpx.AsyncClient, text: str = LOOP_FILE, loop: str = "market") -> httpx.Response:
    """Apply a loop file."""
    return await client.put(f"/{loop}", content=text, headers=YAML)


async def publish(broker: MemoryBroker, *events: Event) -> None:
    """Publish events of other services."""
    for event in events:
        await broker.append(event.topic.name, event.key(), event.encode())


def decided_types(broker: MemoryBroker) -> list[str]:
    """The types of the decisions on the topic, in order."""
    return [e.type.split(".")[1] for e in broker.events(Decided.topic)]


def count_handled(broker: MemoryBroker, topic: str) -> int:
    """How many of the market loop's records of a topic the registry has handled."""
    return broker.committed.get(("registry", topic, broker.partition_for(b"market")), 0)


async def run_to_canary(broker: MemoryBroker, folder: Path) -> None:
    """Run a loop up to its second model: first champion, an alarm, a challenger in canary."""
    await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
    await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
    await publish(broker, stored("a-0", 200, folder / "artifacts", "gate"), evaluation_updated(0, {"0": [0.5] * 200}))
    await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
    await publish(broker, drift_detected(199, 149), version_state("a-0@200"))
    await until(lambda: count_handled(broker, "monitoring.drift_detected.v1") == 1)
    await publish(broker, challenge_updated(200, {"a-0": LOST, "b-0": WON}))
    await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
    await publish(broker, stored("b-0", 400, folder / "artifacts", "gate"))
    await until(lambda: decided_types(broker)[-2:] == ["version_registered", "rollout_changed"])
    await publish(broker, version_state("b-0@400"), evaluation_updated(200, {"a-0@200": [0.5] * 50}))
    await until(lambda: len(decided_types(broker)) == 10)


async def dumped(folder: Path) -> str:
    """Decisions and fold, in the database under a folder."""
    async with Database(database_url(folder), MIGRATIONS, schema="registry") as database:
        return await SqlLoopReader(database).dump()


async def test_a_new_loop_is_201_the_same_again_200_and_a_change_the_next_revision(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        answers = [await put(client), await put(client), await put(client, LOOP_FILE + "gate: {confidence: 0.99}\n")]

    assert [(a.status_code, a.json()["revision"]) for a in answers] == [(201, 1), (200, 1), (200, 2)]
    assert decided_types(broker) == ["loop_applied", "loop_applied"]
    assert [e.revision for e in broker.events(LoopState.topic)] == [1, 2]


@pytest.mark.parametrize(
    ("text", "loop", "fields"),
    [
        (LOOP_FILE, "other", ["loop"]),
        (LOOP_FILE + "models: [{estimator: os.system}]\n", "market", ["models.0.estimator"]),
        (LOOP_FILE + "models: [{estimator: river.cluster.KMeans}]\n", "market", ["models.0.estimator"]),
        (LOOP_FILE + "models: [{preset: logistic, colour: 3}]\n", "market", ["models.0.colour"]),
        (LOOP_FILE + "features: [{name: x, expr: 'price - nothing'}]\n", "market", ["features.0.expr"]),
    ],
)
async def test_an_invalid_loop_file_is_422_by_field(
    tmp_path: Path, text: str, loop: str, fields: Sequence[str]
) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        answer = await put(client, text, loop)

    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [e["field"] for e in answer.json()["errors"]] == fields
    assert decided_types(broker) == []


async def test_other_endpoints_refuse_with_a_status(tmp_path: Path) -> None:
    async with registry(MemoryBroker(), tmp_path) as client:
        await put(client)
        answers = [
            await client.put("/market", content="<a/>", headers={"content-type": "application/xml"}),
            await client.put("/market", content=b"x" * 300_000, headers=YAML),
            await client.get("/nowhere"),
            await client.get("/market", params={"as_of": "yesterday"}),
            await client.get("/market", params={"as_of": "2001-01-01T00:00:00Z"}),
            await client.post("/market/rollback", json={}),
            await client.post("/market/rollback", json={"reason": "x"}),
            await client.post("/market/rollback", json={"reason": "x", "to": "b@1"}),
            await client.post("/nowhere/resume", json={"reason": "x"}),
        ]

    assert [a.status_code for a in answers] == [415, 413, 404, 422, 404, 422, 409, 404, 404]


async def test_every_query_shows_a_loop_with_a_champion_and_a_canary(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await run_to_canary(broker, tmp_path)
        loop, rollout = (await client.get("/market")).json(), (await client.get("/market/rollout")).json()
        versions = (await client.get("/market/versions")).json()["versions"]
        loops = (await client.get("http://localhost/v1/loops")).json()["loops"]

    assert (loop["champion"]["version"], loop["candidate"]["version"]) == ("a-0@200", "b-0@400")
    assert (rollout["stage"], rollout["share"], rollout["urgent"]) == ("canary", 0.25, True)
    assert [(v["version"], v["slot"]) for v in versions] == [("a-0@200", "champion"), ("b-0@400", "candidate")]
    assert [(x["loop"], x["champion"], x["stage"]) for x in loops] == [("market", "a-0@200", "canary")]


async def test_history_is_the_chain_as_it_is_on_the_topic(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await run_to_canary(broker, tmp_path)
        history = (await client.get("/market/history")).json()["decisions"]

    partition = broker.partition_for(b"market")
    wires = [r.value or b"" for r in broker.log(Decided.topic.name, partition)]
    assert [json.loads(wire) for wire in wires] == history
    assert [d["prevhash"] for d in history] == ["0" * 64, *(sha256(w).hexdigest() for w in wires[:-1])]


async def test_as_of_a_moment_is_the_fold_of_the_decisions_up_to_then(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await run_to_canary(broker, tmp_path)
        history = (await client.get("/market/history")).json()["decisions"]
        seen: list[Any] = []
        for decision in history:
            at = {"as_of": decision["time"]}
            loop = (await client.get("/market", params=at)).json()
            versions = (await client.get("/market/versions", params=at)).json()["versions"]
            seen.append((loop["champion"]["version"], loop["stage"], loop["winner"], len(versions)))
        just_before = datetime.fromisoformat(history[0]["time"]) - timedelta(microseconds=1)
        before = await client.get("/market", params={"as_of": just_before.isoformat()})
        unescaped = await client.get("/market?as_of=" + history[-1]["time"])

    assert seen[0] == ("0", "idle", None, 0)
    assert ("0", "training", "a-0", 0) in seen
    assert seen[-1] == ("a-0@200", "canary", None, 2)
    assert before.status_code == 404
    assert unescaped.status_code == 200


async def test_rollback_and_resume_are_published_and_answered(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await run_to_canary(broker, tmp_path)
        back = await client.post("/market/rollback", json={"reason": "looks wrong"})
        resumed = await client.post("/market/resume", json={"reason": "fixed"})

    assert (back.status_code, back.json()["rolled_back"], back.json()["pinned"]) == (200, "a-0@200", True)
    assert back.json()["champion"]["version"] == "0"
    assert resumed.json()["pinned"] is False
    assert decided_types(broker)[-2:] == ["model_rolled_back", "loop_resumed"]


async def test_every_decision_names_its_actor(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await run_to_canary(broker, tmp_path)
        await client.post("/market/rollback", json={"reason": "looks wrong"})

    actors = {d.type.split(".")[1]: d.actor for d in broker.events(Decided.topic) if isinstance(d, Decided)}
    by_command = {"loop_applied", "model_rolled_back"}
    assert {kind for kind, actor in actors.items() if actor == "anonymous"} == by_command
    assert {actor for kind, actor in actors.items() if kind not in by_command} == {"everloop/registry"}


async def test_a_database_that_is_gone_is_the_same_after_the_rebuild(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await put(client)
        await run_to_canary(broker, first)
    published = len(decided_types(broker))

    broker.committed.clear()  # the group's offsets are gone as well: everything is consumed again
    async with registry(broker, second) as client:
        rebuilt = (await client.get("/market")).json()
        await publish(broker, run_requested("c-0"))
        await until(lambda: count_handled(broker, "training.run_requested.v1") == 2)

    assert len(decided_types(broker)) == published
    assert await dumped(second) == await dumped(first)
    assert rebuilt["candidate"]["version"] == "b-0@400"


async def test_a_restart_publishes_nothing_again_and_goes_on(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
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
        answer = await put(client)
        kept = (await client.get("/market")).json()["revision"]
        broker.away = False
        again = await put(client)

    assert (answer.status_code, answer.headers["retry-after"], kept) == (503, "1", 1)
    assert (again.status_code, again.json()["revision"]) == (200, 1)
    assert decided_types(broker) == ["loop_applied"]


async def test_a_database_of_another_log_stops_the_start(tmp_path: Path) -> None:
    for broker in (one := MemoryBroker(), MemoryBroker()):
        async with registry(broker, tmp_path / str(id(broker))) as client:
            await put(client)
    other = tmp_path / str(id(broker))

    with pytest.raises(Misconfigured, match="another log"):
        async with registry(one, other):
            pass


async def test_records_that_follow_from_no_decision_are_left_out_and_the_registry_starts(tmp_path: Path) -> None:
    broker, first, second = MemoryBroker(), tmp_path / "one", tmp_path / "two"
    async with registry(broker, first) as client:
        await put(client)
        await run_to_canary(broker, first)
        before = (await client.get("/market")).json()
    forged: list[dict[str, Any]] = [
        {"sequence": 11},  # leaves a gap
        {"sequence": 10, "type": ModelPromoted.type_name(), "data": EVIL},
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
            left_out = LEFT_OUT_DECISIONS._value.get()
            loops = (await client.get("")).json()["loops"]

        assert after == before
        assert left_out == 5
        assert [loop["loop"] for loop in loops] == ["market"]
    assert await dumped(second) == await dumped(first)


async def test_a_topic_that_has_lost_its_first_decisions_stops_the_start_of_an_empty_registry(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path / "one") as client:
        await put(client)
        await put(client, LOOP_FILE + "gate: {confidence: 0.99}\n")
    log = broker.log(Decided.topic.name, broker.partition_for(b"market"))
    log[0] = replace(log[0], value=b"what retention took")  # is left out of what is read, like a deleted offset

    with pytest.raises(DecisionsInconsistent, match="first records"):
        async with registry(broker, tmp_path / "two"):
            pass


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
        answers = [await put(client), await client.get("/market")]

    assert [a.status_code for a in answers] == [503, 503]
    assert all(a.headers["retry-after"] for a in answers)


class Away(MemoryBroker):
    """A broker that cannot be reached while it is away."""

    away = False

    async def append(self, topic: str, key: bytes, value: bytes | None) -> None:
        """Append one record, or fail as an unreachable broker does."""
        if self.away:
            raise Unavailable("the broker is away")
        await super().append(topic, key, value)


async def test_a_loop_shows_what_instances_serve_that_cannot_load_the_champion(tmp_path: Path) -> None:
    broker = MemoryBroker()
    async with registry(broker, tmp_path) as client:
        await put(client)
        await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
        await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])
        await publish(
            broker, stored("a-0", 200, tmp_path / "artifacts", "gate"), evaluation_updated(0, {"0": [0.5] * 200})
        )
        await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
        await publish(broker, version_state("a-0@200", "failed", serving="0"))
        await until(lambda: decided_types(broker)[-1:] == ["model_rolled_back"])
        back = (await client.get("/market")).json()
        await client.post("/market/rollback", json={"reason": "a person insists", "to": "a-0@200"})
        await publish(
            broker,
            version_state("a-0@200", "failed", serving="0"),
            version_state("a-0@200", "failed", "two", serving="0"),
        )
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 3)
        broken = (await client.get("/market")).json()
        await publish(broker, version_state("a-0@200", "ready"))
        await until(lambda: count_handled(broker, "serving.version_state.v1") == 4)
        mended = (await client.get("/market")).json()

    substitute = {"version": "0", "reason": "test"}
    assert (back["champion"]["version"], back["champion"]["serving"]) == ("0", {})
    assert [found["champion"]["version"] for found in (broken, mended)] == ["a-0@200"] * 2
    assert broken["champion"]["serving"] == {"serving-1": substitute, "two": substitute}
    assert mended["champion"]["serving"] == {"two": substitute}
