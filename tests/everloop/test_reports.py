"""The report and the model card: complete, self-contained, and harmless whatever names and reasons say."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import line_failed, model_promoted, observation
from tests.builders.letters import letter_of
from tests.builders.loops import live_version, loop_spec, loop_state
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import run
from tests.everloop.test_watch_command import wait_until
from tests.monitoring.monitoring_service import MODEL, outcome

from everloop.reports.card_text import render_card
from everloop.reports.charts import curves
from everloop.reports.facts import LoopFacts
from everloop.reports.html import VOID
from everloop.reports.model_card import VersionNotKnown, build_card
from everloop.reports.page import SECTIONS, build_page

HOSTILE = "</style><script>alert(1)</script>\"'><img src=x onerror=alert(2)>|[a](javascript:1)`\x1b\u202e"
SPEC = {"loop": "market", "task": "binary", "metric": "accuracy", "schema": {"price": {"type": "number", "min": 0}}}
MEASURE = {"value": 0.12, "low": 0.05, "high": 0.2}


class Balanced(HTMLParser):
    """Notes which elements a page has, and fails where one is not closed in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.seen.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """It ends."""
        if tag not in VOID:
            assert self.open.pop() == tag, tag


def version(name: str, slot: str | None = None, **changes: Any) -> dict[str, Any]:
    """A version as the registry answers it."""
    line = name.rpartition("@")[0]
    manifest = {
        "loop_revision": 2,
        "model": {"preset": "logistic", "parameters": {"l2": 0.1}},
        "topic": "feature.outcome_observed.v1",
        "partition": 0,
        "start_offset": 0,
        "end_offset": 199,
        "outcomes": 198,
        "seed": 7,
        "libraries": {"river": "0.26.1"},
        "skipped": [3],
        "format": "river",
        "data_set": {"name": "market@0..199#2", "digest": "d" * 64, "rows": 198},
        "metrics": {},
    }
    fields = {"version": name, "line": line, "run": "run-1", "reason": "promotion", "sha256": "a" * 64, "size": 1234}
    more = {"signature": ["price"], "registered": "2026-11-27T10:00:00+00:00", "kept": True, "manifest": manifest}
    return {**fields, **more, "slot": slot, **changes}


def decision(kind: str, subject: str, **data: Any) -> dict[str, Any]:
    """A decision as the registry answers it."""
    return {"type": f"registry.{kind}.v1", "time": "2026-11-27T10:00:01Z", "subject": subject, "data": data}


def facts(told: str = "new prices", **parts: Any) -> LoopFacts:
    """What the services answer about a loop with everything; `told` stands wherever text comes from elsewhere."""
    scores = {"served": 0.8, "rolling": 0.82, "no_change": 0.6, "majority": 0.55}
    counts = (
        "events",
        "predictions",
        "outcomes",
        "drifts",
        "runs",
        "versions",
        "promotions",
        "rollbacks",
        "dead_letters",
    )
    status = {
        **dict.fromkeys(counts, 3),
        "champion": {"version": "logistic-0@199", "since": "2026-11-27T10:00:00+00:00"},
        "rollout": {"stage": "canary", "share": 0.25, "candidate": told},
        "accuracy": scores,
        "metric": {"name": "accuracy", **scores},
    }
    moment = {"time": "2026-11-27T11:00:00+00:00", "what": told, "why": told, "kind": told}
    whole = {"accuracy": 0.8, "f1": None}
    group = {"outcomes": 100, "whole": whole, "rolling": whole, "interval": {"accuracy": [0.7, 0.9]}}
    line = {"line": "logistic-0", "version": "logistic-0@199", "outcomes": 150, "served": 90}
    row = {"name": told, "service": "feature", "topic": told, "error": told, "reason": told, "id": "l1", "sent": []}
    feature = {"name": told, "kind": "feature", "drifted": True, "distance": 0.4, "detector": told, "missing": 0.1}
    point = {"no_change": 0.6, "majority": 0.5, "champion": MODEL, "version": MODEL}
    known = {
        "series": [{**point, "outcomes": n * 100, "served": 0.7 + n / 100} for n in (1, 2, 3)],
        "timeline": [moment],
        "evaluation": {**scores, "metric": "accuracy", "line_metric": "accuracy", "lines": [
            {**line, "score": 0.79, "score_served": 0.8, "rolling": 0.81}]},
        "quality": {
            "groups": [
                {"by": "version", "name": "logistic-0@199", **group},
                {"by": "slice", "name": told, "slice": "plan", **group},
            ],
            "baselines": {"majority": {"accuracy": 0.55}},
            "labels": {"coverage": 0.9, "delay_s": {"p50": 2.0}},
            "estimated": {"metric": "accuracy", "value": 0.79, "error": 0.01},
        },
        "features": {"features": [feature], "slices": [f"region={told}"]},
        "fairness": {"fields": [{
            "field": told, "version": "logistic-0@199", "line": "logistic-0", "enough": False,
            "groups": [{"group": told, "outcomes": 50, "positive_rate": MEASURE}],
            "measures": {"equal_opportunity": MEASURE},
        }]},
        "alerts": [{**moment, "since": moment["time"], "evidence": [told], "cause": told, "doing": told, "data": {}}],
        "drifts": [{**moment, "data": {"outcomes": 200}}],
        "objectives": [],
        "importance": {"versions": [{"version": "logistic-0@199", "importance": {told: 0.9, "price": 0.1}}]},
        "state": {"spec": SPEC},
        "versions": {"versions": [version("forest-0@100"), version("logistic-0@199", "champion")]},
        "history": {"decisions": [
            decision("gate_decided", "logistic-0", reason=told, evidence=5.1, passed=True),
            decision("gate_decided", "forest-0", reason="another line"),
            decision("model_promoted", "logistic-0@199", version="logistic-0@199", reason="won"),
        ]},
        "runs": {"runs": [{"run": "run-1", "trigger": "drift", "reason": f"{told}: error rose", "state": "trained"}]},
        "letters": [{**row, "time": moment["time"], "way": "ingest"}],
    }  # fmt: skip
    return LoopFacts("market", status, {**known, **parts})


def _none(parts: tuple[str, ...]) -> dict[str, Any]:
    return dict.fromkeys(parts)


def parsed(page: str) -> Balanced:
    """The page's elements; fails where it is not well-formed."""
    parser = Balanced()
    parser.feed(page)
    parser.close()
    assert parser.open == []
    return parser


def test_a_page_is_well_formed_needs_nothing_else_and_runs_nothing_whatever_names_say() -> None:
    page = build_page(facts(HOSTILE), datetime(2026, 11, 27, tzinfo=UTC))

    found = parsed(page)
    assert {"script", "img", "link", "iframe", "object", "a", "form"} & set(found.seen) == set()
    assert [name for name in found.attributes if name.startswith("on") or name in ("src", "href")] == []
    assert "url(" not in page
    assert "@import" not in page
    assert "http" not in re.sub(r"http-equiv", "", page)
    assert "default-src &#x27;none&#x27;" in page
    assert not re.search(r"[\x00-\x08\x0b-\x1f\u202a-\u202e]", page)


def test_a_page_has_every_section_and_says_what_was_not_answered() -> None:
    whole = build_page(facts(), datetime(2026, 11, 27, tzinfo=UTC))
    missing = ("quality", "features", "fairness", "alerts", "versions", "series", "timeline")
    bare = build_page(facts(**_none(missing)), datetime(2026, 11, 27, tzinfo=UTC))

    assert [title for title in SECTIONS if f"<h2>{title}</h2>" not in whole] == []
    for told in (
        "82",
        "new prices",
        "0.8 (0.7 to 0.9)",
        "equal opportunity 0.12",
        "logistic-0@199 champion",
        "drifted",
        "The drift is concentrated in region=",
    ):
        assert told in whole
    assert whole.count("does not answer this") == 0
    assert bare.count("does not answer this") == 8
    parsed(bare)


def test_curves_mark_drifts_and_new_champion_lines_and_survive_equal_scores() -> None:
    point = {"served": 0.5, "no_change": 0.5, "majority": 0.5}
    lines = ["a@1", "a@2", "b@3"]
    points = [{**point, "outcomes": 100 * n, "champion": line} for n, line in enumerate(lines, 1)]

    drawn = curves(points, [{"what": "drift", "data": {"outcomes": 150}}, {"what": "no place", "data": {}}], "accuracy")

    assert (drawn.count("▼"), drawn.count("▲")) == (1, 1)
    assert "b is champion" in drawn
    assert "nan" not in drawn
    assert "begin with" in curves(points[:1], [], "accuracy")


def test_a_card_tells_one_version_with_its_data_decisions_and_limits() -> None:
    card = build_card(facts(), "champion")
    text = render_card(card)

    assert (card["version"], card["training"]["data_set"]["digest"]) == ("logistic-0@199", "d" * 64)
    assert [one["decision"] for one in card["decisions"]] == ["gate_decided", "model_promoted"]
    assert card["evaluation"]["quality"]["of"] == "version"
    for told in ("198 outcomes, offsets 0 to 199", "l2", "error rose", "0.7 to 0.9", "95 %", "equal\\_opportunity"):
        assert told in text, text
    assert "another line" not in text
    assert "Alert since 2026-11-27T11:00:00" in text
    assert json.loads(json.dumps(card)) == card


def test_a_card_leaves_out_what_was_not_answered_and_says_so() -> None:
    missing = ("quality", "fairness", "importance", "evaluation", "features", "alerts", "drifts")

    text = render_card(build_card(facts(**_none(missing)), "forest-0@100"))

    assert text.count("does not answer this") == 3
    assert "No importance of features was found" in text
    assert "No alert is open" in text


def test_a_card_is_markdown_in_which_nothing_from_elsewhere_is_a_mark() -> None:
    text = render_card(build_card(facts(f"a\n# b{HOSTILE}"), "champion"))

    assert "<" not in text
    assert "\x1b" not in text
    assert "\n# b" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert not re.search(r"(?<!\\)`\\x1b", text)


@pytest.mark.parametrize(
    ("name", "why"), [("0", "baseline"), ("candidate", "no candidate"), ("none@1", "everloop versions market")]
)
def test_a_version_without_a_card_is_said_with_what_there_is(name: str, why: str) -> None:
    with pytest.raises(VersionNotKnown, match=why):
        build_card(facts(), name)


@pytest.fixture
def services(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedServices]:
    """Monitoring with a loop that something happened to; the other services do not answer."""
    monkeypatch.setenv("EVERLOOP_DATA", str(tmp_path))
    monkeypatch.setenv("EVERLOOP_REGISTRY_URL", "http://127.0.0.1:9")
    with served(tmp_path, "monitoring") as running:
        rollout: dict[str, Any] = {"stage": "canary", "share": 0.25, "candidate": live_version("forest-0@90")}
        running.publish(loop_state(loop_spec(), champion=MODEL, **rollout), model_promoted("logistic-0@30"))
        running.publish(*(outcome(f"e{i}", i % 4 > 0, prediction=True) for i in range(250)))
        running.publish(line_failed("forest-0", reason=HOSTILE), letter_of(observation("e1"), reason=HOSTILE))
        yield running


@pytest.mark.app
@pytest.mark.timeout(60)
def test_the_report_of_the_real_monitoring_is_well_formed_without_the_registry(
    services: ServedServices, tmp_path: Path
) -> None:
    file = tmp_path / "report.html"

    wait_until(lambda: '"dead_letters": 1' in run("status", "market", "--json").stdout)
    done = run("report", "market", "-o", str(file), "--json")
    card = run("model-card", "market", "champion")
    unknown = run("report", "none", "-o", str(file))

    page = file.read_text()
    assert (done.exit_code, card.exit_code, unknown.exit_code) == (0, 1, 1), done.output
    assert {"state", "versions", "history"} <= set(json.loads(done.stdout)["not_answered"])
    assert "the registry does not answer" in card.stderr
    assert "script" not in parsed(page).seen
    assert "&lt;script&gt;alert(1)" in page
    assert "forest-0@90 canary 25%" in page
    assert "<path" in page
