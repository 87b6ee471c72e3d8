"""A loop's facts as a screen of the terminal, and as one line where there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from everloop.cli.output import printable
from everloop.cli.views import awaited
from everloop.reports.facts import LoopFacts, is_error

BAR_CHARACTERS = 40
CURVE_POINTS = 60
ROWS = 6
BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = {"info": "blue", "warning": "yellow", "critical": "red"}
NAMES = {
    "rolling": "served, last 500",
    "served": "served, all",
    "no_change": "no change",
    "majority": "majority or mean",
}


def screen(facts: LoopFacts, note: str = "") -> RenderableType:
    """Everything about a loop that fits on a screen."""
    parts = [
        _head(facts),
        _scores(facts),
        _traffic(facts.status),
        *_alerts(facts),
        *_drifted(facts),
        *_decisions(facts),
    ]
    title = f"{printable(facts.loop)}{'  ' + printable(note) if note else ''}"
    return Panel(Group(*parts), title=Text(title), title_align="left")


def line(facts: LoopFacts) -> str:
    """The same in one line, for a file or a pipe."""
    status, scores = facts.status, _measured(facts.status)
    rollout = status["rollout"]
    candidate = (
        f" {rollout['stage']} {rollout['share']:.0%} {rollout['candidate']}{awaited(rollout)}"
        if rollout["candidate"]
        else ""
    )
    alerts = [one for one in facts.rows("alerts") if one.get("state") != "pending"]
    drifted = [one["name"] for one in facts.rows("features", "features") if one.get("drifted")]
    told = [
        f"{facts.loop}: {status['outcomes']:,} outcomes",
        f"{scores['name']} {_figure(scores.get('rolling'))} (no change {_figure(scores.get('no_change'))})",
        f"champion {status['champion']['version']}{candidate}",
        f"{len(alerts)} alerts" + (f": {alerts[-1].get('what', '')}" if alerts else ""),
        *([f"drift of {', '.join(map(str, drifted))} {_slices(facts)}".rstrip()] if drifted else []),
        *([f"{status['dead_letters']:,} dead letters"] if status["dead_letters"] else []),
    ]
    return printable("; ".join(told))


def _head(facts: LoopFacts) -> RenderableType:
    status = facts.status
    names = ("events", "predictions", "outcomes", "drifts", "runs", "promotions", "rollbacks", "dead_letters")
    counts = "  ".join(f"{name.replace('_', ' ')} {status[name]:,}" for name in names)
    champion = status["champion"]
    return Group(Text(printable(f"champion {champion['version']} since {champion['since'][:19]}")), Text(counts), "")


def _scores(facts: LoopFacts) -> RenderableType:
    scores = _measured(facts.status)
    known = [scores[name] for name in NAMES if scores.get(name) is not None]
    most = max(known, default=0.0)
    top = 1.0 if 0 <= most <= 1 and not is_error(facts.status, facts) else most
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, title in NAMES.items():
        value = scores.get(name)
        filled = round(BAR_CHARACTERS * max(0.0, value) / top) if value is not None and top > 0 else 0
        bar = Text("█" * filled, style="green" if name == "rolling" else "dim")
        table.add_row(title, _figure(value), bar)
    curve = [point["served"] for point in facts.rows("series")][-CURVE_POINTS:]
    less = ", less is better" if is_error(facts.status, facts) else ""
    rows: list[RenderableType] = [Text(f"{printable(scores['name'])}{less}", style="bold"), table]
    if len(curve) > 1:
        rows.append(Text(f"{sparkline(curve)}  {_figure(min(curve))} to {_figure(max(curve))}"))
    return Group(*rows, "")


def sparkline(values: list[float]) -> str:
    """Values as a row of blocks, the lowest and the highest one the lowest and the highest block."""
    low, high = min(values), max(values)
    steps = len(BLOCKS) - 1
    return "".join(BLOCKS[round(steps * (v - low) / (high - low)) if high > low else 0] for v in values)


def _traffic(status: Mapping[str, Any]) -> RenderableType:
    rollout, champion = status["rollout"], status["champion"]["version"]
    share = rollout["share"] if rollout["candidate"] else 0.0
    filled = round(BAR_CHARACTERS * share)
    bar = Text("█" * (BAR_CHARACTERS - filled), style="green").append("█" * filled, style="blue")
    told = f" {champion} {1 - share:.0%}"
    if rollout["candidate"]:
        told += f", {rollout['candidate']} {rollout['stage']} {share:.0%}{awaited(rollout)}"
    return Group(Text("traffic", style="bold"), bar.append(printable(told), style=""), "")


def _alerts(facts: LoopFacts) -> Iterator[RenderableType]:
    if facts.part("alerts") is None:
        return
    found = facts.rows("alerts")
    yield Text(f"open alerts {len(found)}", style="bold")
    for one in list(reversed(found))[:ROWS]:
        severity = str((one.get("data") or {}).get("severity", "info"))
        told = Text(f"● {severity} ", style=COLOURS.get(severity, ""))
        since = str(one.get("since") or one.get("time") or "")[:19]
        told.append(printable(f"{one.get('what', '')}  since {since}"), style="default")
        yield told
        for name in ("cause", "doing"):
            if one.get(name):
                yield Text(printable(f"    {name}: {one[name]}"), style="dim")
    yield ""


def _drifted(facts: LoopFacts) -> Iterator[RenderableType]:
    drifted = [one for one in facts.rows("features", "features") if one.get("drifted")]
    if not drifted:
        return
    yield Text("drifted", style="bold")
    table = Table(box=None, show_header=False, pad_edge=False)
    for one in sorted(drifted, key=lambda one: -(one.get("distance") or 0.0))[:ROWS]:
        since = str(one.get("since") or "")[:19]
        cells = (one["name"], one.get("kind", ""), f"{one.get('detector', '')} {_figure(one.get('distance'))}", since)
        table.add_row(*(Text(printable(cell)) for cell in cells))
    yield table
    if where := _slices(facts):
        yield Text(printable(where), style="dim")
    yield ""


def _slices(facts: LoopFacts) -> str:
    """Where the drift is; older services name no slices."""
    slices = (facts.part("features") or {}).get("slices") or ()
    return f"most of all in {', '.join(map(str, slices[:ROWS]))}" if slices else ""


def _decisions(facts: LoopFacts) -> Iterator[RenderableType]:
    latest = list(reversed(facts.rows("timeline")))[:ROWS]
    yield Text("lately", style="bold")
    if not latest:
        yield Text("nothing yet", style="dim")
    for one in latest:
        told = Text(str(one["time"])[11:19] + "  ", style="dim")
        yield told.append(printable(one["what"]), style="default").append(printable(f"  {one['why']}"), style="dim")


def _measured(status: Mapping[str, Any]) -> Mapping[str, Any]:
    """The scores by the loop's metric; older services name none."""
    return status.get("metric") or {"name": "accuracy", **status["accuracy"]}


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
