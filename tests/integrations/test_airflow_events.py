"""The positions of Airflow's triggers: no event is passed over, and none is new twice; pure, without Airflow."""

from __future__ import annotations

import json
import runpy
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integrations.airflow_rig import PROVIDER

from everloop_schemas.topology import SERVICES

EVENTS = runpy.run_path(str(PROVIDER / "airflow" / "providers" / "everloop" / "events.py"))
INFO = runpy.run_path(str(PROVIDER / "airflow" / "providers" / "everloop" / "get_provider_info.py"))
START = datetime(2026, 5, 1, 12, tzinfo=UTC)
behind, from_time, read_events, split_new = (
    EVENTS[name] for name in ("behind", "from_time", "read_events", "split_new")
)


def drift(id: str, minutes: float) -> dict[str, Any]:
    """A row of monitoring's drifts."""
    time = (START + timedelta(minutes=minutes)).isoformat()
    return {"id": id, "kind": "drift", "time": time, "what": "drift", "why": "hddm_w", "data": {"kind": "concept"}}


def listed(*rows: dict[str, Any]) -> Any:
    """The events of these drifts."""
    return read_events("drift_detected", "churn", rows)


def test_an_event_is_new_once_and_one_that_is_listed_late_is_not_passed_over() -> None:
    first = listed(drift("a", 0), drift("c", 30))
    position = json.loads(json.dumps(behind(first)))
    later = listed(drift("a", 0), drift("b", 29), drift("c", 30), drift("d", 31))

    new = split_new(later, position)

    assert [found["id"] for found in new] == ["b", "d"]
    assert split_new(later, behind(later)) == []
    assert split_new(first, position) == []


def test_what_happens_after_nothing_had_happened_is_new() -> None:
    assert [found["id"] for found in split_new(listed(drift("a", 0)), behind([]))] == ["a"]


def test_from_a_time_on_events_of_that_time_count_and_those_before_do_not() -> None:
    found = split_new(listed(drift("a", 0), drift("b", 1), drift("c", 2)), from_time(START + timedelta(minutes=1)))

    assert [one["id"] for one in found] == ["b", "c"]


def test_a_position_stays_small_where_there_are_many_events() -> None:
    rows = [drift(f"d{n}", n) for n in range(5_000)]

    position = behind(listed(*rows))

    assert len(position["seen"]) == 11


def test_runs_and_decisions_are_events_by_their_own_ids() -> None:
    run = {"run": "r1", "state": "running", "requested": START.isoformat(), "finished": None, "trainer": "numpy"}
    done = {
        **run,
        "run": "r2",
        "state": "failed",
        "finished": (START + timedelta(1)).isoformat(),
        "failure": "no class",
    }
    promoted = {"type": "registry.model_promoted.v1", "id": "p1", "sequence": 7, "time": START.isoformat()}
    decisions = [
        {**promoted, "data": {"version": "a-0@9"}},
        {**promoted, "type": "registry.loop_applied.v1", "data": {}},
    ]

    [waits] = read_events("run_requested", "churn", [run, done])
    [ended] = read_events("run_finished", "churn", [run, done])
    [champion] = read_events("model_promoted", "churn", decisions)

    assert (waits["id"], ended["id"], ended["data"]["failure"]) == ("r1", "r2", "no class")
    assert (champion["id"], champion["data"]) == ("p1", {"version": "a-0@9", "sequence": 7})
    assert EVENTS["is_meant"](waits, {"trainer": "numpy", "line": None})
    assert not EVENTS["is_meant"](waits, {"trainer": "pytorch"})


def test_the_form_of_the_connection_has_an_address_for_every_service() -> None:
    [connection] = INFO["get_provider_info"]()["connection-types"]

    assert {f"{name}_url" for name in SERVICES} < set(connection["conn-fields"])
