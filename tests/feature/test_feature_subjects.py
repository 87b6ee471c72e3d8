"""What is known of one person is read from the topics, whole, and opened where the key is there."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.builders.personal import vault_of
from tests.builders.running import RunningService, http_client
from tests.feature.feature_events import SHOP, event, label, loop_state, observation, prediction, spec
from tests.feature.personal_feature import personal, request

from everloop_feature.domain.subject_records import SOURCES
from everloop_feature.errors import ExportsBusy
from everloop_feature.handlers import subjects
from everloop_feature.handlers.subjects import SubjectExport
from everloop_schemas.erasure import EntityErasureDone
from everloop_schemas.feature import OutcomeObserved
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.messaging.routes import connected


async def read(running: RunningService, entity: str, **query: str) -> tuple[int, list[dict[str, Any]]]:
    """The lines of an export."""
    async with http_client(running.service, f"/v1/loops/{SHOP}/subjects/") as client:
        answer = await client.get(entity, params=query)
    return answer.status_code, [json.loads(line) for line in answer.text.splitlines()]


async def apply(running: RunningService, *published: Any) -> None:
    """Publish a loop's state, and the rest once the service knows the loop."""
    await running.publish(published[0])
    async with http_client(running.service, f"/v1/loops/{published[0].loop}") as client:
        while (await client.get("")).status_code != 200:
            await asyncio.sleep(0.005)
    await running.publish(*published[1:])


async def test_every_record_about_a_person_is_in_the_export_and_none_about_others(running: RunningService) -> None:
    await apply(running, loop_state(), event(0), observation(1), event(2, entity="bob"))
    await running.publish(*(prediction(n, entity="bob" if n == 2 else "ada") for n in range(3)))
    await running.publish(label(0, comment="for ada"), label(2, comment="for bob"), label(9))
    await running.wait_for(OutcomeObserved, 2)

    status, lines = await read(running, "ada")
    only = (await read(running, "ada", only="outcomes"))[1]

    kinds = [line["kind"] for line in lines]
    assert status == 200
    assert [kinds.count(k) for k in ("observation", "features", "prediction", "label", "outcome")] == [2, 1, 2, 1, 1]
    assert [line["record"]["data"]["applied"] for line in lines if line["kind"] == "windows"][-1] == 2
    assert lines[-1]["kind"] == "end"
    assert lines[-1]["complete"] is True
    assert "bob" not in json.dumps(lines)
    assert [line["kind"] for line in only] == ["progress", "outcome", "end"]
    assert [line["record"]["data"]["comment"] for line in lines if line["kind"] == "label"] == ["for ada"]


async def test_sealed_values_are_opened_and_nothing_is_in_clear_after_an_erasure(
    running: RunningService, tmp_path: Path
) -> None:
    vault = vault_of(tmp_path)
    names = frozenset({"price"})
    sealed = [
        await vault.seal_event(event(0, price=987654.25), names),
        await vault.seal_event(prediction(0, features={"price": 987654.25}), names),
        await vault.seal_event(label(0, comment="her money", source="desk"), names),
    ]
    await apply(running, loop_state(personal(features=[{"fields": "all"}])), *sealed)
    await running.wait_for(OutcomeObserved, 1)

    before = (await read(running, "ada"))[1]
    await running.publish(request())
    await running.wait_for(EntityErasureDone, 1)
    after = (await read(running, "ada"))[1]

    opened = {line["kind"]: line["record"]["data"] for line in before if line.get("personal") == "opened"}
    assert opened["observation"]["fields"] == {"price": 987654.25}
    assert opened["prediction"]["features"] == {"price": 987654.25}
    assert opened["label"]["comment"] == "her money"
    assert "987654" not in json.dumps(after)
    states = {line["kind"]: line["personal"] for line in after if line["kind"] in ("observation", "prediction")}
    assert states == {"observation": "erased", "prediction": "erased"}
    assert {"erasure", "erased"} <= {line["kind"] for line in after}


async def test_an_unknown_loop_or_an_impossible_name_is_refused(running: RunningService) -> None:
    await apply(running, loop_state(spec("other")))

    unknown, _ = await read(running, "ada")
    await apply(running, loop_state())
    impossible, _ = await read(running, "%20ada")

    assert (unknown, impossible) == (404, 422)


async def test_an_export_is_read_in_pieces_says_how_far_it_is_and_ends_where_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subjects, "BATCH_RECORDS", 2)
    monkeypatch.setattr(subjects, "PROGRESS_EVERY", 3)
    broker = MemoryBroker(partitions=1)
    for n in range(20):
        one = event(n, entity=f"e-{n % 2}")
        await broker.append(one.topic.name, one.key(), one.encode())

    async with connected(broker.engine("feature")) as engine:
        whole, short = SubjectExport(engine, NoKeys(), 1), SubjectExport(engine, NoKeys(), 1, longest_s=0.0)
        lines = [json.loads(line) async for line in whole.lines(SHOP, "e-1", SOURCES)]
        cut = [json.loads(line) async for line in short.lines(SHOP, "e-1", SOURCES)]

    assert [line["read"] for line in lines if line["kind"] == "progress"] == [0, 6, 12, 18]
    assert (lines[-1]["read"], lines[-1]["records"], lines[-1]["complete"]) == (20, 10, True)
    assert (cut[-1]["complete"], cut[-1]["reason"]) == (False, "it took longer than 0 s")


async def test_two_exports_run_at_once_and_a_third_is_told_to_wait() -> None:
    async with connected(MemoryBroker(partitions=1).engine("feature")) as engine:
        export = SubjectExport(engine, NoKeys(), 1)
        running = [export.lines(SHOP, "ada") for _ in range(2)]
        for one in running:
            await anext(one)

        with pytest.raises(ExportsBusy):
            await anext(export.lines(SHOP, "ada"))
        for one in running:
            await one.aclose()  # type: ignore[attr-defined]

        assert [json.loads(line)["kind"] async for line in export.lines(SHOP, "ada")] == ["progress", "end"]


class NoKeys:
    """No loop has personal fields."""

    async def unseal(self, loop: str, entity: str, token: str) -> dict[str, Any] | None:
        """Not to be asked."""
        raise AssertionError
