"""What was measured: figures with their goals, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from types import MappingProxyType
from typing import Any

from rich.table import Table

HEADINGS = ("| figure | before | now | goal | met |", "|---|---|---|---|---|")


@dataclass(frozen=True)
class Sample:
    """One run: events per second of wall time, and microseconds of CPU (user and system) per event."""

    rate: float
    cpu_us: float


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ours` and `bare` in `unit`; CPU in microseconds per event; `met` None without a goal."""

    name: str
    ours: float
    unit: str
    bare: float | None = None
    ratio: float | None = None
    goal: str = ""
    met: bool | None = None
    cpu_us: float | None = None
    bare_cpu_us: float | None = None
    note: str = ""
    runs: tuple[float, ...] = ()
    group: str = ""


def against(
    name: str,
    ours: Sequence[Sample],
    bare: Sequence[Sample],
    goal: float | None,
    note: str = "",
    unit: str = "events/s",
) -> Figure:
    """Ours against the bare library, run in turn: the ratio is the median of the pairs'. `goal` None: no goal."""
    ratio = median(o.rate / b.rate for o, b in zip(ours, bare, strict=True))
    return Figure(
        name,
        ours=median(s.rate for s in ours),
        unit=unit,
        bare=median(s.rate for s in bare),
        ratio=ratio,
        goal="" if goal is None else f"ratio >= {goal:g}",
        met=None if goal is None else ratio >= goal,
        cpu_us=median(s.cpu_us for s in ours),
        bare_cpu_us=median(s.cpu_us for s in bare),
        note=note,
        runs=tuple(s.rate for s in ours),
    )


def at_most(name: str, values: Sequence[float], limit: float | None, unit: str, note: str = "") -> Figure:
    """The median of some values, which should not be above `limit` (None: no goal)."""
    value = median(values)
    goal, met = (f"<= {limit:g}", value <= limit) if limit is not None else ("", None)
    return Figure(name, value, unit, goal=goal, met=met, note=note, runs=tuple(values))


def table(figures: Sequence[Figure], title: str) -> Table:
    """For people, in groups."""
    shown = Table(title=title, title_justify="left")
    for heading in ("figure", "ours", "bare", "unit", "ratio", "CPU us/event", "bare CPU", "goal", "met"):
        shown.add_column(heading, justify="left" if heading in ("figure", "unit", "goal", "met") else "right")
    for group, those in _groups(figures):
        shown.add_section()
        if group:
            shown.add_row(f"[bold]{group}[/bold]")
        for f in those:
            numbers = (f.ratio, f.cpu_us, f.bare_cpu_us)
            name = f.name + (f"\n  [dim]{f.note}[/dim]" if f.note else "")
            shown.add_row(
                name, _number(f.ours), _number(f.bare), f.unit, *(_number(n) for n in numbers), f.goal, _met(f)
            )
    return shown


def markdown(figures: Sequence[Figure], before: Mapping[str, str] = MappingProxyType({})) -> str:
    """For the page, a table for each group: `before` has what a figure was in an earlier release, by its name."""
    lines = list[str]()
    for group, those in _groups(figures):
        lines += [*([f"## {group}", ""] if group else []), *HEADINGS]
        lines += [
            f"| {f.name} | {before.get(f.name, '')} | {_number(f.ours)} {f.unit}{_beside(f)} | {f.goal} | {_met(f)} |"
            for f in those
        ]
        lines.append("")
    return "\n".join(lines)


def _groups(figures: Sequence[Figure]) -> list[tuple[str, list[Figure]]]:
    """Figures by group, both in the order in which they come."""
    found: dict[str, list[Figure]] = {}
    for figure in figures:
        found.setdefault(figure.group, []).append(figure)
    return list(found.items())


def _beside(f: Figure) -> str:
    """What there is to say of the bare library and the CPU."""
    bare = f"; bare {_number(f.bare)}" if f.bare is not None else ""
    ratio = f"; ratio {_number(f.ratio)}" if f.ratio is not None else ""
    cpu = f"; CPU {_number(f.cpu_us)} / {_number(f.bare_cpu_us)} us" if f.cpu_us is not None else ""
    return bare + ratio + cpu


def as_json(figures: Sequence[Figure], about: Mapping[str, Any]) -> str:
    """For programs: the machine and the settings, and the figures."""
    return json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1, default=str) + "\n"


def _met(f: Figure) -> str:
    return "" if f.met is None else "yes" if f.met else "NO"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
