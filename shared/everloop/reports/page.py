"""A loop's report: one page of HTML that needs no network, no script and no other file."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from everloop.reports.charts import bar, curves, line_of
from everloop.reports.facts import LETTERS, LoopFacts
from everloop.reports.html import Child, Markup, table, tag

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Nothing is loaded and nothing is run, whatever is in the page."""
TIMELINE_ROWS, VERSION_ROWS, GROUPS_SHOWN, METRICS_SHOWN = 100, 5, 60, 6
COUNTS = ("events", "predictions", "outcomes", "drifts", "runs", "versions", "promotions", "rollbacks", "dead_letters")
NOT_ANSWERED = "The installation does not answer this."
Part = Callable[[LoopFacts], Iterator[Child]]


def build_page(facts: LoopFacts, made: datetime) -> str:
    """The whole page."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("title", f"{facts.loop}: report of {made:%Y-%m-%d}"),
        tag("style", Markup(STYLE.read_text(encoding="utf-8"))),
    )
    sections = (tag("section", tag("h2", title), *part(facts)) for title, part in SECTIONS.items())
    top = tag("header", tag("h1", facts.loop), tag("p", f"as of {made:%Y-%m-%d %H:%M:%S} UTC"))
    return "<!doctype html>\n" + tag("html", head, tag("body", top, tag("main", *sections)), lang="en") + "\n"


def _status(facts: LoopFacts) -> Iterator[Child]:
    status, metric = facts.status, facts.status.get("metric") or {"name": "accuracy", **facts.status["accuracy"]}
    rows: list[tuple[str, Child]] = [
        (f"{metric['name']}, last 500", _figure(metric.get("rolling"))),
        (f"{metric['name']}, all", _figure(metric.get("served"))),
        ("no change", _figure(metric.get("no_change"))),
        ("majority or mean", _figure(metric.get("majority"))),
    ]
    rows += [(name.replace("_", " "), f"{status[name]:,}") for name in COUNTS]
    yield tag("div", *(tag("div", tag("b", value), tag("span", name)) for name, value in rows), class_="figures")
    rollout, champion = status["rollout"], status["champion"]
    candidate, share = rollout["candidate"], rollout["share"] if rollout["candidate"] else 0.0
    told = candidate and f"{candidate} {rollout['stage']} {share:.0%}"
    yield bar(share, f"{champion['version']} champion {1 - share:.0%}", told)
    if candidate and not share:
        yield tag("p", f"{candidate} predicts in shadow")
    yield tag("p", f"champion since {_moment(champion['since'])}", class_="dim")


def _scores(facts: LoopFacts) -> Iterator[Child]:
    if facts.part("series") is None:
        yield _empty(NOT_ANSWERED)
        return
    metric = (facts.status.get("metric") or {"name": "accuracy"})["name"]
    other = "mae" if (facts.part("evaluation") or {}).get("line_metric") == "mae" else "accuracy"
    points = [point for point in facts.rows("series") if (point.get("metric") or other) == metric]
    yield curves(points, facts.rows("drifts"), metric)
    names = (("served", "served"), ("nochange", "no change"), ("majority", "majority or mean"))
    yield tag(
        "p",
        *(tag("span", tag("i", class_=colour), name) for colour, name in names),
        tag("span", "▼ drift", class_="drift"),
        tag("span", "▲ new champion line", class_="promotion"),
        class_="legend",
    )


def _alerts(facts: LoopFacts) -> Iterator[Child]:
    def cells(one: Mapping[str, Any]) -> list[Child]:
        severity, evidence = (one.get("data") or {}).get("severity", ""), "; ".join(one.get("evidence") or ())
        told = [one.get("what"), evidence, one.get("cause") or "", one.get("doing") or ""]
        return [severity, _moment(one.get("since") or one["time"]), *told]

    yield _rows(facts, "alerts", None, "severity, since, what, evidence, likely cause, what Everloop does", cells)


def _timeline(facts: LoopFacts) -> Iterator[Child]:
    if facts.part("timeline") is None:
        yield _empty(NOT_ANSWERED)
        return
    latest = list(reversed(facts.rows("timeline")))[:TIMELINE_ROWS]
    rows = [(_moment(one["time"]), one["kind"].replace("_", " "), one["what"], one["why"]) for one in latest]
    yield table(("time", "kind", "what", "why"), rows) if rows else _empty("Nothing yet.")


def _quality(facts: LoopFacts) -> Iterator[Child]:
    yield from _groups(facts, lambda one: one.get("by") != "slice", "group")
    quality = facts.part("quality") or {}
    if labels := quality.get("labels"):
        delay = labels.get("delay_s") or {}
        coverage, told = labels.get("coverage"), [f"{name} {_figure(value)} s" for name, value in delay.items()]
        shown = "-" if coverage is None else f"{coverage:.1%}"
        yield tag("p", f"{shown} of the predictions have a label; delay {', '.join(told) or '-'}")
    if estimated := quality.get("estimated"):
        value, error = _figure(estimated["value"]), _figure(estimated.get("error"))
        name = estimated["metric"]
        yield tag("p", f"before labels: {name} estimated at {value}, earlier estimates were off by {error}")


def _slices(facts: LoopFacts) -> Iterator[Child]:
    yield from _groups(facts, lambda one: one.get("by") == "slice", "slice")


def _groups(facts: LoopFacts, wanted: Callable[[Mapping[str, Any]], bool], what: str) -> Iterator[Child]:
    if facts.part("quality") is None:
        yield _empty(NOT_ANSWERED)
        return
    groups = [one for one in facts.rows("quality", "groups") if wanted(one)][:GROUPS_SHOWN]
    if not groups:
        yield _empty("None: labels have not come, or the loop's file names no slices.")
        return
    names = [name for name in groups[0]["whole"] or {}][:METRICS_SHOWN]
    rows = []
    for one in groups:
        name = f"{one.get('slice')}: {one['name']}" if one.get("slice") else f"{one['by']} {one['name']}"
        measured = [_with_interval(one, metric) for metric in names]
        rows.append((name, f"{one['outcomes']:,}", *measured))
    yield table((what, "outcomes", *names), rows)


def _with_interval(group: Mapping[str, Any], metric: str) -> str:
    value, interval = (group["whole"] or {}).get(metric), (group.get("interval") or {}).get(metric)
    return _figure(value) + (f" ({_figure(interval[0])} to {_figure(interval[1])})" if interval else "")


def _fairness(facts: LoopFacts) -> Iterator[Child]:
    if facts.part("fairness") is None:
        yield _empty(NOT_ANSWERED)
        return
    fields = facts.rows("fairness", "fields")
    if not fields:
        yield _empty("The loop's file names no fields (monitor.fairness).")
    rates = ("positive_rate", "true_positive_rate", "false_positive_rate", "calibration_error")
    for one in fields:
        rows = [
            (group["group"], f"{group['outcomes']:,}", *(_estimate(group.get(rate)) for rate in rates))
            for group in one.get("groups") or ()
        ]
        heads = ("group", "outcomes", *(rate.replace("_", " ") for rate in rates))
        yield table(heads, rows, f"{one['field']}, {one['version']}")
        measured = (f"{name.replace('_', ' ')} {_estimate(m)}" for name, m in (one.get("measures") or {}).items())
        yield tag("p", "largest differences: " + ", ".join(measured))


def _features(facts: LoopFacts) -> Iterator[Child]:
    def cells(one: Mapping[str, Any]) -> list[Child]:
        distance = f"{one.get('detector') or ''} {_figure(one.get('distance'))}"
        flags = ", ".join(name for name in ("constant", "stale") if one.get(name))
        quality = [_figure(one.get(name)) for name in ("missing", "out_of_range", "unknown")]
        since = _moment(one["since"]) if one.get("since") else ""
        return [one["name"], one.get("kind", ""), "drifted" if one.get("drifted") else flags, distance, since, *quality]

    heads = "name, kind, state, distance, since, missing, out of range, unknown"
    found = facts.rows("features", "features")
    ranked = sorted(found, key=lambda one: (not one.get("drifted"), -(one.get("distance") or 0.0)))
    yield _rows(facts, "features", ranked, heads, cells)
    if slices := (facts.part("features") or {}).get("slices"):
        yield tag("p", f"The drift is concentrated in {', '.join(map(str, slices))}.")
    if personal := (facts.part("features") or {}).get("personal"):
        yield tag("p", f"Personal, not watched: {', '.join(map(str, personal))}.")


def _objectives(facts: LoopFacts) -> Iterator[Child]:
    def cells(one: Mapping[str, Any]) -> list[Child]:
        burn = ", ".join(f"{name} {_figure(rate)}" for name, rate in (one.get("burn") or {}).items())
        goal = f"{one['share']:.2%} within {_figure(one['within_s'])} s"
        return [one["objective"], goal, f"{one['good']:,}", f"{one['total']:,}", burn, _figure(one.get("budget_left"))]

    yield _rows(facts, "objectives", None, "objective, goal, in time, of, burn rate, budget left", cells)


def _versions(facts: LoopFacts) -> Iterator[Child]:
    """Versions by line, the line of the newest one first."""
    if facts.part("versions") is None:
        yield _empty(NOT_ANSWERED)
        return
    lines = defaultdict[str, list[Mapping[str, Any]]](list)
    for one in reversed(facts.rows("versions", "versions")):
        lines[one.get("line") or line_of(one["version"])].append(one)
    scores = {one["line"]: one for one in facts.rows("evaluation", "lines")}
    rows: list[Sequence[Child]] = []
    for line, versions in lines.items():
        score, newest = scores.get(line, {}), versions[0]
        slots = ", ".join(f"{one['version']} {one['slot']}" for one in versions if one.get("slot"))
        learned = f"{newest['manifest']['outcomes']:,}"
        shown = ", ".join(one["version"] for one in versions[:VERSION_ROWS])
        more = f" and {len(versions) - VERSION_ROWS:,} older" if len(versions) > VERSION_ROWS else ""
        rows.append((line, slots, shown + more, learned, _figure(score.get("score")), _figure(score.get("rolling"))))
    heads = ("line", "serves", "versions, newest first", "outcomes learned", "score, all", "score, last 500")
    yield table(heads, rows) if rows else _empty("None yet: version 0 answers.")


def _letters(facts: LoopFacts) -> Iterator[Child]:
    def cells(one: Mapping[str, Any]) -> list[Child]:
        sent = _moment(one["sent"][-1]["time"]) if one.get("sent") else ""
        return [one["id"], _moment(one["time"]), one["service"], one["topic"], f"{one['error']}: {one['reason']}", sent]

    yield _rows(facts, LETTERS, None, "id, time, service, topic, why, sent again", cells)


def _rows(
    facts: LoopFacts,
    name: str,
    rows: Sequence[Mapping[str, Any]] | None,
    heads: str,
    cells: Callable[[Mapping[str, Any]], Sequence[Child]],
) -> Markup:
    if facts.part(name) is None:
        return _empty(NOT_ANSWERED)
    found = facts.rows(name) if rows is None else rows
    return table(heads.split(", "), [cells(one) for one in found]) if found else _empty("None.")


def _empty(told: str) -> Markup:
    return tag("p", told, class_="empty")


def _estimate(measured: Mapping[str, Any] | None) -> str:
    if not measured or measured.get("value") is None:
        return "-"
    return f"{_figure(measured['value'])} ({_figure(measured.get('low'))} to {_figure(measured.get('high'))})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _moment(time: str) -> str:
    return str(time)[:19].replace("T", " ")


SECTIONS: Mapping[str, Part] = {
    "Status": _status,
    "Scores over the last 500 outcomes": _scores,
    "Open alerts": _alerts,
    "Quality by metric": _quality,
    "Slices": _slices,
    "Fairness": _fairness,
    "Features": _features,
    "Objectives": _objectives,
    "Versions by line": _versions,
    "Timeline": _timeline,
    "Dead letters": _letters,
}
