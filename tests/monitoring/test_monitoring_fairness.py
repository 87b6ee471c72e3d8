"""Groups are compared for each line, corrections count, and a champion that breaks a requirement raises one alert."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.builders.census import HIGH_INCOMES
from tests.builders.events import outcome_observed, prediction_made
from tests.builders.loops import NOW, loop_spec
from tests.monitoring.monitoring_service import MODEL, running, state

from everloop_learning.version import line_of
from everloop_monitoring.adapters.row_names import form_of
from everloop_monitoring.domain.fairness import CHECK_EVERY_OUTCOMES, FairnessWatch
from everloop_monitoring.domain.state import CountedOutcome
from everloop_monitoring.domain.watch import WatchedOutcome
from everloop_schemas.envelope import Scalar
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec
from everloop_schemas.monitoring import AlertRaised
from everloop_schemas.serving import Shadow
from everloop_shared.messaging.memory import MemoryBroker

SEXES = {"price": {"type": "number"}, "sex": {"type": "string"}}
REQUIRED = "fairness.sex.equal_opportunity <= 0.2"
WATCHED: dict[str, Any] = {"schema": SEXES, "monitor": {"fairness": ["sex"]}, "gate": {"require": [REQUIRED]}}
LINE, SHADOW = line_of(MODEL), "forest-7@400"
UNFAIR, FAIR = {"female": 0.4, "male": 0.9}, {"female": 0.8, "male": 0.8}
"""By sex, how often a high income is found."""


def people(n: int, found: dict[str, float], seed: int = 1, first: int = 0, **changes: Any) -> Iterator[OutcomeObserved]:
    """Outcomes whose true positive rate has these values; the shadow is always right."""
    random = Random(seed)
    for i in range(first, first + n):
        sex = random.choice(("female", "male"))
        label = random.random() < HIGH_INCOMES[sex] + 0.15
        predicted = random.random() < (found[sex] if label else 0.1)
        chance = 0.8 if predicted else 0.2
        parts = {
            "features": {"price": 1.0, "sex": sex},
            "probabilities": {"true": chance, "false": 1 - chance},
            "version": MODEL,
            "role": "champion",
            "shadows": (Shadow(version=SHADOW, prediction=label),),
        }
        yield outcome_observed(f"p{i}", label, prediction=predicted, **{**parts, **changes})


class Watching:
    """A watch that is given outcomes as the handlers give them."""

    def __init__(self, spec: LoopSpec | None = None) -> None:
        self.watch = FairnessWatch().follow(spec or loop_spec(**WATCHED))
        self.counted: dict[str, CountedOutcome] = {}
        self.now, self.alerts = NOW, list[AlertRaised]()

    def add(self, *events: OutcomeObserved, label: Callable[[OutcomeObserved], Scalar | None] | None = None) -> None:
        """Add outcomes, or corrections of them, in which a label may be another one."""
        for event in events:
            before = self.counted.get(event.subject)
            new = event.data.label if label is None else label(event)
            offset = before.offset if before else len(self.counted)
            now = CountedOutcome(offset, new, 0 if before is None else 1, False, False)
            self.counted[event.subject] = now
            if before is None or before.label != new:
                told = self.watch.add_outcome(WatchedOutcome(event, offset, before, now), self._tick())
                self.alerts += [each for each in told if isinstance(each, AlertRaised)]

    def states(self) -> list[str]:
        return [alert.data.state for alert in self.alerts]

    def _tick(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


def rates(watch: FairnessWatch, line: str = LINE) -> dict[str, tuple[int, int]]:
    """Found and all high incomes, by sex."""
    return {sex: (sums.hits, sums.positives) for sex, sums in watch.groups_of(line, "sex").items()}


def plain_rates(events: Sequence[OutcomeObserved], labels: dict[str, bool | None]) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for event in events:
        hits, all_of = found.get(sex := str(event.data.features["sex"]), (0, 0))
        is_high = labels[event.subject] is True
        found[sex] = (hits + (is_high and event.data.prediction is True), all_of + is_high)
    return found


def test_groups_are_counted_for_the_served_line_and_for_shadows() -> None:
    watching, made = Watching(), list(people(300, UNFAIR))

    watching.add(*made)

    labels = {event.subject: event.data.label is True for event in made}
    assert rates(watching.watch) == plain_rates(made, dict(labels))
    assert all(hits == all_of for hits, all_of in rates(watching.watch, "forest-7").values())
    assert watching.watch.versions == {LINE: MODEL, "forest-7": SHADOW}


def test_corrections_in_any_order_give_what_the_last_labels_give() -> None:
    watching, made, random = Watching(), list(people(900, UNFAIR)), Random(4)
    labels: dict[str, bool | None] = {}
    for event in made:
        labels[event.subject] = None if random.random() < 0.1 else event.data.label is True
        watching.add(event, label=lambda e: labels[e.subject])
        for corrected in random.sample(made[: len(labels)], k=min(2, len(labels))):
            labels[corrected.subject] = random.choice((True, False, None))
            watching.add(corrected, label=lambda e: labels[e.subject])

    assert rates(watching.watch) == plain_rates(made, labels)


def test_a_champion_that_breaks_a_requirement_raises_one_alert_with_its_evidence() -> None:
    watching = Watching()

    watching.add(*people(1500, UNFAIR))

    [alert] = watching.alerts
    data = alert.data
    assert (data.kind, data.state, data.alert, alert.subject) == ("fairness", "firing", REQUIRED, "fairness")
    assert data.message.startswith(f"{MODEL} serves and breaks {REQUIRED}: it is 0.")
    assert [line.split(": ")[0] for line in data.evidence] == ["sex male", "sex female"]
    assert data.evidence[0].startswith("sex male: true positive rate 0.")
    assert LINE in str(data.cause)


def test_it_is_resolved_once_the_requirement_is_met() -> None:
    watching = Watching()
    watching.add(*people(1000, UNFAIR))

    watching.add(*people(2500, FAIR, first=1000))

    first, second = watching.alerts
    assert watching.states() == ["firing", "resolved"]
    assert (second.data.alert, second.data.severity) == (REQUIRED, "info")
    assert first.id != second.id


def test_another_champion_resolves_it() -> None:
    watching = Watching()
    watching.add(*people(1000, UNFAIR))

    watching.add(*people(CHECK_EVERY_OUTCOMES, FAIR, first=1000, version="forest-7@900", shadows=()))

    assert watching.states() == ["firing", "resolved"]
    assert watching.alerts[1].data.message.endswith("forest-7 is champion now")


def test_a_requirement_that_is_taken_back_resolves_it_also_where_other_fields_are_compared() -> None:
    watching = Watching()
    watching.add(*people(1000, UNFAIR))

    watching.watch = watching.watch.follow(loop_spec(schema=SEXES, monitor={"fairness": ["sex", "price"]}))
    watching.add(*people(CHECK_EVERY_OUTCOMES, UNFAIR, first=1000))

    assert watching.states() == ["firing", "resolved"]
    assert watching.alerts[1].data.message.endswith("it is required no more")


@pytest.mark.parametrize("seed", range(5))
def test_a_difference_by_chance_raises_no_alert(seed: int) -> None:
    watching = Watching(loop_spec(**{**WATCHED, "gate": {"require": ["fairness.sex.equalised_odds <= 0.05"]}}))

    watching.add(*people(3000, FAIR, seed))

    assert watching.alerts == []


def test_a_correction_from_before_the_watch_was_turned_on_changes_nothing() -> None:
    watching, made = Watching(), list(people(50, UNFAIR))
    [old] = people(1, UNFAIR, first=99)
    watching.counted = {f"earlier-{i}": CountedOutcome(i, None, 0, False, False) for i in range(100)}
    watching.counted[old.subject] = CountedOutcome(3, True, 0, False, False)
    watching.add(*made)
    before = rates(watching.watch)

    watching.add(old, label=lambda _: False)

    assert rates(watching.watch) == before


def test_the_state_survives_as_json() -> None:
    watching = Watching(loop_spec(**{**WATCHED, "monitor": {"fairness": ["sex", "price"]}}))
    watching.add(*people(700, UNFAIR))

    text = form_of(FairnessWatch).dump_json(watching.watch)

    assert form_of(FairnessWatch).validate_json(text) == watching.watch
    assert len(text) < 20_000
    assert watching.watch.firing


@pytest.mark.parametrize(("spec", "on"), [(WATCHED, True), ({"schema": SEXES}, False)])
def test_it_is_on_where_the_spec_names_fields(spec: dict[str, Any], on: bool) -> None:
    assert FairnessWatch.is_on(loop_spec(**spec)) is on


@pytest.mark.app
async def test_the_endpoint_shows_groups_measures_and_the_alert_is_published(tmp_path: Path, databases: object) -> None:
    broker = MemoryBroker()
    made = list(people(600, UNFAIR))
    async with running(broker, tmp_path) as monitoring:
        await monitoring.publish(state(spec=WATCHED), prediction_made("p0"), *made)
        await monitoring.caught_up()
        fairness = await monitoring.get("fairness")
        alerts = await monitoring.get("alerts?state=open")
        unknown = await monitoring.http.get("/v1/loops/nothing/fairness")

    champion, shadow = fairness["fields"]
    groups = {group["group"]: group for group in champion["groups"]}
    hits, positives = plain_rates(made, {e.subject: e.data.label is True for e in made})["female"]
    assert (champion["field"], champion["version"], champion["champion"]) == ("sex", MODEL, True)
    assert champion["enough"]
    assert (shadow["version"], shadow["champion"]) == (SHADOW, False)
    assert shadow["measures"]["equal_opportunity"]["value"] == 0
    assert groups["female"]["true_positive_rate"]["value"] == pytest.approx(hits / positives)
    assert groups["female"]["calibration_error"]["outcomes"] == groups["female"]["outcomes"]
    assert shadow["measures"]["calibration"]["value"] is None
    assert champion["measures"]["equal_opportunity"]["low"] > 0.2
    assert [(alert["kind"], alert["alert"], alert["state"]) for alert in alerts] == [("fairness", REQUIRED, "firing")]
    assert "only challengers that meet the requirement" in alerts[0]["doing"]
    assert unknown.status_code == 404
