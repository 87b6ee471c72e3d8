"""What was measured: figures with their goals, as a table and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from rich.table import Table


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


def against(name: str, ours: Sequence[Sample], bare: Sequence[Sample], goal: float, note: str = "") -> Figure:
    """Ours against the bare library, run in turn: the ratio is the median of those of the pairs."""
    ratio = median(o.rate / b.rate for o, b in zip(ours, bare, strict=True))
    return Figure(
        name,
        ours=median(s.rate for s in ours),
        unit="events/s",
        bare=median(s.rate for s in bare),
        ratio=ratio,
        goal=f"ratio >= {goal:g}",
        met=ratio >= goal,
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
    """For people."""
    shown = Table(title=title, title_justify="left")
    for heading in ("figure", "ours", "bare", "unit", "ratio", "CPU us/event", "bare CPU", "goal", "met"):
        shown.add_column(heading, justify="left" if heading in ("figure", "unit", "goal", "met") else "right")
    for f in figures:
        numbers = [
            _number(f.ours),
            _number(f.bare),
            f.unit,
            _number(f.ratio),
            _number(f.cpu_us),
            _number(f.bare_cpu_us),
        ]
        shown.add_row(f.name + (f"\n  [dim]{f.note}[/dim]" if f.note else ""), *numbers, f.goal, _met(f))
    return shown


def markdown(figures: Sequence[Figure]) -> str:
    """For a README."""
    lines = [
        "| figure | ours | bare | ratio | CPU per event, ours / bare | goal | met |",
        "|---|---|---|---|---|---|---|",
    ]
    for f in figures:
        cpu = f"{_number(f.cpu_us)} / {_number(f.bare_cpu_us)} us" if f.cpu_us is not None else ""
        bare = f"{_number(f.bare)} {f.unit}" if f.bare is not None else ""
        lines.append(
            f"| {f.name} | {_number(f.ours)} {f.unit} | {bare} | {_number(f.ratio)} | {cpu} | {f.goal} | {_met(f)} |"
        )
    return "\n".join(lines) + "\n"


def as_json(figures: Sequence[Figure], about: Mapping[str, Any]) -> str:
    """For programs: the machine and the settings, and the figures."""
    return json.dumps({"about": about, "figures": [asdict(f) for f in figures]}, indent=1, default=str) + "\n"


def _met(f: Figure) -> str:
    return "" if f.met is None else "yes" if f.met else "NO"


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
