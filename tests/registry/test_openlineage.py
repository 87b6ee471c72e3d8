"""What a lineage backend is told of a loop, over a real HTTP connection: each run once, in order, whatever happens."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from tests.builders.events import run_finished, run_requested
from tests.builders.running import until
from tests.monitoring.http_receiver import HttpReceiver, http_receiver
from tests.registry.openlineage_checks import check_events, sent, telling, told
from tests.registry.registry_harness import apply_file, decided_types, publish, run_to_canary

from everloop_registry.adapters import mirror
from everloop_registry.adapters.mirror_state import MirrorState
from everloop_registry.app import build as build_registry
from everloop_registry.settings import RegistrySettings
from everloop_schemas.training import DataSet
from everloop_shared.backoff import Backoff
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.memory import MemoryBroker

LAG, REFUSED, FAILURES = (
    f"everloop_registry_openlineage_{name}" for name in ("lag_records", "refused_total", "failures_total")
)
KEY, URL = "hidden-key", "http://marquez.example:5000"


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpReceiver]:
    """A backend, which is told at once."""
    monkeypatch.setattr(mirror, "EVERY_S", 0.02)
    monkeypatch.setattr(mirror.Mirror.__init__, "__defaults__", (Backoff(0.02, 0.1),))
    with http_receiver() as started:
        yield started


def value(metric: str) -> float:
    """A metric's value."""
    return REGISTRY.get_sample_value(metric) or 0.0


async def test_a_loop_s_runs_versions_and_rollouts_are_told_with_their_data_sets(
    receiver: HttpReceiver, tmp_path: Path
) -> None:
    broker = MemoryBroker()

    async with telling(broker, tmp_path, receiver, archive="s3://lake/everloop") as registry:
        await apply_file(registry)
        await run_to_canary(broker, tmp_path)
        await publish(broker, run_finished("a-0"))
        rolled_back = await registry.post("/market/rollback", json={"reason": "wrong"})
        deleted = await registry.delete("/market", params={"reason": "done"})
        await until(lambda: ("serve", "ABORT") in told(sent(receiver)))

    assert (rolled_back.status_code, deleted.status_code) == (200, 200)
    events = sent(receiver)
    check_events(events)
    by_job = {job: [s for j, s in told(events) if j == job] for job in ("train", "register", "rollout", "serve")}
    assert by_job["train"][:2] == ["START", "COMPLETE"]
    assert by_job["register"] == ["START", "COMPLETE"] * 2
    assert by_job["rollout"][:3] == ["START", "COMPLETE", "START"]
    assert by_job["serve"][:3] == ["START", "COMPLETE", "START"]
    [registered] = [e for e in events if _is(e, "register", "COMPLETE") and _version(e) == "a-0@200"]
    [learned], [model] = registered["inputs"], registered["outputs"]
    assert (learned["namespace"], learned["name"]) == ("kafka://kafka.example:9092", "feature.outcome_observed.v1")
    assert (model["namespace"], model["name"]) == ("file", str(tmp_path / "artifacts/models/market"))
    assert learned["facets"]["symlinks"]["identifiers"] == [
        {"namespace": "s3://lake", "name": "everloop/outcomes/loop=market", "type": "TABLE"}
    ]
    offsets = learned["facets"]["everloop_offsets"]
    assert (offsets["dataSet"], offsets["start"], offsets["end"]) == ("market@0..200#1", 0, 200)
    [requested] = [e for e in events if _is(e, "train", "START")]
    assert registered["run"]["facets"]["parent"]["run"]["runId"] == requested["run"]["runId"]
    assert json.loads(requested["job"]["facets"]["sourceCode"]["sourceCode"])["loop"] == "market"


async def test_a_batch_training_is_told_with_its_rows_and_a_failure_with_its_reason(
    receiver: HttpReceiver, tmp_path: Path
) -> None:
    broker = MemoryBroker()
    asked = DataSet(loop="market", start=0, end=99, revision=1)
    read = asked.model_copy(update={"digest": "d" * 64, "rows": 98})
    artifact = {"uri": "s3://models/x/models/market/f-0@99-0123456789abcdef.onnx", "sha256": "a" * 64, "size": 9}
    begun = run_requested("f-0", data_set=asked, key="schedule/1767225600", trigger="schedule")
    ended = run_finished("f-0", data_set=read, artifact={**artifact, "format": "onnx"}, metrics={"auc": 0.9})

    async with telling(broker, tmp_path, receiver) as registry:
        await apply_file(registry)
        await publish(broker, begun, run_requested("g-0"))
        await publish(broker, ended, run_finished("g-0", state="failed", reason="no classes"))
        await until(lambda: len([e for e in sent(receiver) if e["eventType"] in ("COMPLETE", "FAIL")]) == 2)

    events = sent(receiver)
    check_events(events)
    [start] = [e for e in events if _is(e, "train", "START") and _run(e)["line"] == "f-0"]
    [complete] = [e for e in events if _is(e, "train", "COMPLETE")]
    [fail] = [e for e in events if _is(e, "train", "FAIL")]
    assert start["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-01-01T00:00:00+00:00"
    assert complete["run"]["runId"] == start["run"]["runId"]
    assert complete["inputs"][0]["inputFacets"]["inputStatistics"]["rowCount"] == 98
    assert complete["inputs"][0]["facets"]["everloop_offsets"]["digest"] == "d" * 64
    assert [(one["namespace"], one["name"]) for one in complete["outputs"]] == [("s3://models", "x/models/market")]
    assert fail["run"]["facets"]["errorMessage"]["message"] == "no classes"


async def test_a_backend_that_is_away_holds_nothing_up_and_is_told_all_of_it_later(
    receiver: HttpReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker, failed = MemoryBroker(), value(FAILURES)
    receiver.answers += [503, 404, 302, 429, 500]
    (tmp_path / "key").write_text(f"{KEY}\n")

    async with telling(broker, tmp_path, receiver, openlineage_api_key_file=tmp_path / "key") as registry:
        applied = await apply_file(registry)
        await until(lambda: len(receiver.received) == 6)
        await until(lambda: value(LAG) == 0)

    assert (applied.status_code, value(FAILURES) - failed) == (201, 5)
    assert len({received.body for received in receiver.received}) == 1
    assert {received.path for received in receiver.received} == {"/api/v1/lineage"}
    assert {received.headers["authorization"] for received in receiver.received} == {f"Bearer {KEY}"}
    assert any("the lineage backend is behind" in record.message for record in caplog.records)
    assert KEY not in caplog.text + "".join(str(record.__dict__) for record in caplog.records)


async def test_a_backend_that_never_answers_holds_nothing_up(receiver: HttpReceiver, tmp_path: Path) -> None:
    broker = MemoryBroker()
    receiver.open.clear()

    async with telling(broker, tmp_path, receiver) as registry:
        await apply_file(registry)
        await until(lambda: receiver.received)
        await run_to_canary(broker, tmp_path)
        waiting = len(receiver.received)
        receiver.open.set()
        await until(lambda: ("rollout", "RUNNING") in told(sent(receiver)))

    assert (waiting, len(decided_types(broker))) == (1, 10)
    check_events(sent(receiver))


async def test_an_event_that_the_backend_refuses_is_left_out_and_counted(
    receiver: HttpReceiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broker, refused = MemoryBroker(), value(REFUSED)
    receiver.answers += [422, 422, 422]

    async with telling(broker, tmp_path, receiver) as registry:
        await apply_file(registry)
        await until(lambda: value(REFUSED) == refused + 1)
        await publish(broker, run_requested("a-0"))
        await until(lambda: ("train", "START") in told(sent(receiver)))
        await registry.delete("/market", params={"reason": "done"})
        await until(lambda: ("serve", "ABORT") in told(sent(receiver)))

    came = told([received.json for received in receiver.received])
    assert came[:4] == [("serve", "START")] * 3 + [("train", "START")]
    assert any("refuses an event" in record.message for record in caplog.records)


async def test_what_was_told_before_a_crash_is_told_again_as_the_same_events(
    receiver: HttpReceiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = MemoryBroker()

    async def die(*_: Any) -> None:
        raise RuntimeError("killed between the answer and the position")

    with monkeypatch.context() as patch:
        patch.setattr(MirrorState, "move", die)
        async with telling(broker, tmp_path, receiver) as registry:
            await apply_file(registry)
            await publish(broker, run_requested("a-0"))
            await until(lambda: ("train", "START") in told(sent(receiver)))
    before = sent(receiver)
    receiver.received.clear()
    async with telling(broker, tmp_path, receiver):
        await until(lambda: len(told(sent(receiver))) >= 2)
    again = sent(receiver)
    receiver.received.clear()
    async with telling(broker, tmp_path, receiver) as registry:
        await publish(broker, run_requested("b-0"))
        await until(lambda: receiver.received)

    assert [event in again for event in before] == [True] * len(before)
    check_events(again)
    assert [_run(event)["line"] for event in sent(receiver)] == ["b-0"]


async def test_a_backend_that_is_named_later_is_told_the_whole_history(receiver: HttpReceiver, tmp_path: Path) -> None:
    broker = MemoryBroker()

    async with telling(broker, tmp_path, receiver, openlineage_url="") as registry:
        await apply_file(registry)
        await run_to_canary(broker, tmp_path)
    silent = len(receiver.received)
    async with telling(broker, tmp_path, receiver):
        await until(lambda: ("rollout", "RUNNING") in told(sent(receiver)))
    first = sent(receiver)
    async with telling(broker, tmp_path, receiver, openlineage_namespace="other"):
        await until(lambda: len(sent(receiver)) == 2 * len(first))

    assert silent == 0
    check_events(sent(receiver))
    assert {event["job"]["namespace"] for event in sent(receiver)[len(first) :]} == {"other"}


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"openlineage_url": "marquez:5000"}, "write http://HOST:PORT or https://HOST"),
        ({"openlineage_url": "http://[::1"}, "write http://HOST:PORT or https://HOST"),
        ({"openlineage_url": f"http://me:{KEY}@marquez:5000"}, "set EVERLOOP_OPENLINEAGE_API_KEY"),
        ({"openlineage_url": f"http://marquez?key={KEY}"}, "without query"),
        ({"openlineage_url": "http://marquez", "openlineage_api_key": f"{KEY}\n2"}, "EVERLOOP_OPENLINEAGE_API_KEY: a "),
        (
            {"openlineage_url": "http://marquez", "openlineage_api_key_file": "gone"},
            "EVERLOOP_OPENLINEAGE_API_KEY_FILE",
        ),
    ],
)
def test_a_wrong_setting_is_refused_at_the_start_with_the_fix(
    settings: dict[str, Any], fix: str, tmp_path: Path
) -> None:
    wrong = RegistrySettings(data=tmp_path, **settings)

    with pytest.raises(Misconfigured, match=fix) as refused:
        build_registry(wrong, MemoryBroker().engine)

    assert KEY not in str(refused.value) + repr(wrong)


def _is(event: Any, job: str, state: str) -> bool:
    return (event["job"]["name"].partition(".")[2], event["eventType"]) == (job, state)


def _version(event: Any) -> str:
    return str(event["outputs"][0]["facets"]["everloop_version"]["version"])


def _run(event: Any) -> Any:
    return event["run"]["facets"]["everloop_run"]
