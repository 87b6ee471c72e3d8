"""A loop as tables and panels for people; plain text without a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

Status = Mapping[str, Any]
HIDDEN = frozenset({"loop", "spec", "model", "reason"})


def status(loop: str, found: Status) -> RenderableType:
    """One loop in full."""
    champion, rollout, scores = found["champion"], found["rollout"], found["accuracy"]
    counts = _pairs([(name, f"{found[name]:,}") for name in ("events", "predictions", "outcomes", "dead_letters")])
    models = _pairs(
        [("champion", f"{champion['version']} since {champion['since'][:19]}"), ("rollout", _rollout(rollout))]
        + [(name, f"{found[name]:,}") for name in ("versions", "promotions", "rollbacks", "drifts", "runs")]
    )
    names = {"served": "served, all", "rolling": "served, last 500", "no_change": "no change", "majority": "majority"}
    rows = [(title, _score(scores.get(name))) for name, title in names.items()]
    metric = found.get("metric") or {"name": "accuracy"}
    if metric["name"] not in ("accuracy", "mae"):
        rows += [
            (f"{metric['name']}, last 500", _measured(metric["rolling"])),
            (f"{metric['name']}, all", _measured(metric["served"])),
        ]
    accuracy = _pairs(rows)
    fallbacks = [
        Text(f"{instance} serves {fallback['version']}, as it cannot load the champion: {fallback['reason']}")
        for instance, fallback in champion.get("serving", {}).items()
    ]
    parts = Group(counts, "", models, *fallbacks, "", accuracy, *_sources(found.get("sources", ())))
    title = f"{loop}, of team {found['team']}" if found.get("team") else loop
    return Panel(parts, title=Text(title), title_align="left", expand=False)


def loops(all_loops: Mapping[str, Status]) -> RenderableType:
    """All loops, a line each."""
    table = _table("loop", "champion", "rollout", "events", "outcomes", "served", "last 500", "drifts")
    for name, found in all_loops.items():
        scores = found["accuracy"]
        table.add_row(
            name,
            _champion(found["champion"]),
            _rollout(found["rollout"]),
            f"{found['events']:,}",
            f"{found['outcomes']:,}",
            _score(scores["served"]),
            _score(scores["rolling"]),
            str(found["drifts"]),
        )
    return table


def _champion(champion: Mapping[str, Any]) -> str:
    """The champion, and what instances serve that cannot load it."""
    instead = [f"{instance} serves {one['version']}" for instance, one in champion.get("serving", {}).items()]
    return ", but ".join((champion["version"], *instead))


def versions(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Versions, a line each."""
    table = _table("version", "why", "outcomes", "size", "registered", "slot")
    for v in found:
        size, outcomes = f"{v['size'] / 1000:,.0f} kB", f"{v['manifest']['outcomes']:,}"
        table.add_row(v["version"], v["reason"], outcomes, size, v["registered"][:19], v["slot"] or "")
    return table


def history(decisions: Sequence[Mapping[str, Any]]) -> RenderableType:
    """Decisions, a line each."""
    table = _table("no", "time", "decision", "about", "why")
    for d in decisions:
        kind = d["type"].removeprefix("registry.").removesuffix(".v1").replace("_", " ")
        table.add_row(str(d["sequence"]), d["time"][:19], kind, d["subject"], why(d["data"]))
    return table


def _sources(found: Sequence[Mapping[str, Any]]) -> list[RenderableType]:
    """The Kafka sources, a line each, and below them what is wrong with them; nothing for a loop without any."""
    if not found:
        return []
    table = _table("source", "topic", "state", "lag", "read", "rejected")
    for s in found:
        numbers = (f"{s[name]:,}" for name in ("lag", "records", "rejected"))
        table.add_row(s["source"], s["topic"], s["state"], *numbers)
    return ["", table, *(Text(s["detail"]) for s in found if "detail" in s)]


def why(data: Mapping[str, Any]) -> str:
    """The reason in a decision, else its values."""
    values = ", ".join(f"{k} {v}" for k, v in data.items() if k not in HIDDEN and isinstance(v, str | int | float))
    return str(data.get("reason") or "") or values


def _rollout(rollout: Mapping[str, Any]) -> str:
    if rollout["candidate"] is None:
        return str(rollout["stage"])
    return f"{rollout['stage']} {rollout['share']:.0%} {rollout['candidate']}{awaited(rollout)}"


def awaited(rollout: Mapping[str, Any]) -> str:
    """What the candidate waits for; nothing where it does not, and from services that know no approvals."""
    if (approval := rollout.get("approval")) is None:
        return ""
    has = f"{len(approval['approved_by'])} of {approval['approvals']} approvals"
    return f", {has} {approval['step'].replace('_', ' ')}, until {approval['expires'][:16]}"


def _measured(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _score(score: float | None) -> str:
    return "-" if score is None else f"{score:.4f}"


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _pairs(pairs: Sequence[tuple[str, str]]) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in pairs:
        table.add_row(name.replace("_", " "), value)
    return table
