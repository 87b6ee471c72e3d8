"""What a spec expects of fields: counted, told when too few observations meet it, and over when enough do again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from pydantic import TypeAdapter
from tests.builders.events import observation
from tests.builders.loops import LOOP, NOW, loop_spec
from tests.databases import database_url
from tests.monitoring.monitoring_service import running, state

from everloop_monitoring.domain.expectations import ExpectationWatch, probability_of_breaks
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter
from everloop_schemas.envelope import Event, Scalar
from everloop_schemas.monitoring import AlertRaised
from everloop_shared.messaging.memory import MemoryBroker

AGE: dict[str, Any] = {"field": "age", "between": [0, 120], "share": 0.99}
SCHEMA = {"age": {"type": "number", "missing": None}, "plan": {"type": "string", "missing": None}}
STATE = TypeAdapter(ExpectationWatch)


def watch_of(*expected: dict[str, Any]) -> ExpectationWatch:
    return ExpectationWatch().follow(loop_spec(schema=SCHEMA, expect=expected))


def alerts(watch: ExpectationWatch, values: Iterable[Scalar | None], of: str = "age") -> list[tuple[int, AlertRaised]]:
    found = []
    for i, value in enumerate(values, watch.checks[0].latest()[0]):
        for event in watch.add_observation(observation(f"e{i}", {of: value}), NOW):
            assert isinstance(event, AlertRaised)
            found.append((i, event))
    return found


def test_an_alert_begins_when_too_many_break_it_and_ends_when_few_do() -> None:
    ages = [40.0] * 1000 + [40.0, 300.0] * 150 + [40.0] * 1500

    (began, first), (ended, second) = alerts(watch_of(AGE), ages)

    assert 1000 <= began < 1100
    assert 2200 <= ended < 2400
    assert (first.data.kind, first.data.alert, first.data.state) == ("expectation", "expectation.age.between", "firing")
    assert (second.data.alert, second.data.state) == (first.data.alert, "resolved")
    assert "99.00% must be" in first.data.message


def test_no_alert_begins_while_as_many_break_it_as_may() -> None:
    rng = Random(1)

    assert alerts(watch_of(AGE), (300.0 if rng.random() < 0.01 else 40.0 for _ in range(20_000))) == []


def test_a_missing_value_breaks_only_that_one_is_expected_to_be_present() -> None:
    watch = watch_of(AGE, {"field": "age", "present": True, "share": 0.5})

    [(_, alert)] = alerts(watch, [None] * 200)

    assert alert.data.alert == "expectation.age.present"
    assert watch.checks[0].latest() == (0, 0)


def test_values_that_are_named_are_expected_as_they_are() -> None:
    watch = watch_of({"field": "plan", "one_of": ["free", "gold"]})

    [(i, alert)] = alerts(watch, ["free"] * 150 + ["golf"] + ["gold"] * 100, of="plan")

    assert (i, alert.data.alert) == (199, "expectation.plan.one_of")


def test_the_probability_is_never_below_the_exact_one() -> None:
    binomial = pytest.importorskip("scipy.stats").binom

    for n, broken, allowed in ((100, 5, 0.01), (1000, 20, 0.01), (100, 60, 0.5), (100, 100, 0.5)):
        assert probability_of_breaks(n, broken, allowed) >= 0.999 * binomial.sf(broken - 1, n, allowed)
    assert probability_of_breaks(100, 1, 0.01) == 1.0
    assert probability_of_breaks(100, 1, 0.0) == 0.0


def test_what_is_expected_no_longer_is_forgotten_and_what_is_expected_still_goes_on() -> None:
    watch = STATE.validate_json(STATE.dump_json(watch_of(AGE, {"field": "plan", "one_of": ["a"]})))
    alerts(watch, [1.0] * 50)

    later = watch.follow(loop_spec(schema=SCHEMA, expect=[{"field": "plan", "one_of": ["b"]}, AGE]))

    assert watch.follow(loop_spec(schema=SCHEMA, expect=[AGE, {"field": "plan", "one_of": ["a"]}])) is watch
    assert [check.latest() for check in later.checks] == [(0, 0), (50, 0)]


def letter_of(i: int, count: int, service: str = "ingest", name: str = "age.between") -> DeadLetter:
    data = {"topic": "t", "partition": -1, "offset": -1, "error": "e", "reason": "data.age is 300"}
    cls = DEAD_LETTERS[service]
    given = {"time": NOW, "subject": "s", "loop": LOOP, "data": {**data, "unexpected": {name: count}}}
    return cls.model_validate({"id": f"letter-{i}", **given})


def test_what_ingest_refused_counts_as_often_as_its_letters_say_and_each_letter_once() -> None:
    watch = watch_of({**AGE, "then": "dead_letter"})
    alerts(watch, [40.0] * 560)

    told = [event for i in (1, 1, 2) for event in watch.add_refusals(letter_of(i, 30), NOW)]
    for letter in (letter_of(3, 9, "feature"), letter_of(4, 9, name="plan.one_of"), letter_of(5, -4)):
        assert list(watch.add_refusals(letter, NOW)) == []

    [alert] = told
    assert isinstance(alert, AlertRaised)
    assert (alert.data.alert, alert.data.state) == ("expectation.age.between", "firing")
    assert (alert.data.doing or "").startswith("ingest refuses")
    assert "data.age is 300" in alert.data.evidence[1]
    assert watch.checks[0].latest() == (620, 60)


def test_a_letter_that_claims_a_billion_refusals_costs_as_much_as_a_window() -> None:
    watch = watch_of({**AGE, "then": "dead_letter"})

    [alert] = watch.add_refusals(letter_of(1, 10**9), NOW)

    assert watch.checks[0].latest() == (1000, 1000)
    assert watch_of(AGE).add_refusals(letter_of(1, 500), NOW) == []
    assert isinstance(alert, AlertRaised)


async def publish(broker: MemoryBroker, event: Event) -> None:
    await broker.append(event.topic.name, event.key(), event.encode())


@pytest.mark.app
async def test_the_service_tells_the_alert_and_shows_the_share(tmp_path: Path, databases: object) -> None:
    broker, spec = MemoryBroker(), {"schema": SCHEMA, "expect": [AGE]}
    assert database_url(tmp_path)
    await publish(broker, state(spec=spec))
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(*[observation(f"e{i}", {"age": 300.0 if i % 2 else 40.0}) for i in range(120)])
        await monitoring.status()
        answer, open_alerts = await monitoring.get("features"), await monitoring.get("alerts?state=open")

        [raised] = monitoring.published(AlertRaised)

    [row] = answer["expectations"]
    assert (row["field"], row["what"], row["share"], row["required"]) == ("age", "between 0 and 120", 0.5, 0.99)
    assert (row["holds"], row["n"]) == (False, 120)
    assert [alert["alert"] for alert in open_alerts] == [raised.data.alert] == ["expectation.age.between"]
