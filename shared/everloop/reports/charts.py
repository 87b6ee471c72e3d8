"""The charts of a report, as SVG that needs nothing else; drawn as the console draws its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everloop.reports.html import Markup, join, tag

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 1000, 260, 52, 22, 14
STEPS = 5
CURVES = (("majority", "majority", "2 3"), ("no_change", "nochange", "7 4"), ("served", "served", None))
"""Key of a point, colour, and dashes: no meaning rests on a colour alone."""
SHARES = ("accuracy", "balanced_accuracy", "f1", "f1_macro", "precision", "recall", "roc_auc", "pr_auc")


def curves(points: Sequence[Mapping[str, Any]], drifts: Sequence[Mapping[str, Any]], metric: str) -> Markup:
    """The rolling scores over outcomes, with drifts and new champion lines."""
    if len(points) < 2:
        return tag("p", "The curves begin with the first hundred labels.", class_="empty")
    plot = _Plot(points, is_share=metric in SHARES)
    marks = [_mark(plot, at, "drift", "▼", what) for at, what in _drifts(drifts) if plot.first <= at <= plot.last]
    marks += [_mark(plot, at, "promotion", "▲", f"{line} is champion") for at, line in _promotions(points)]
    said = f"{metric} from outcome {plot.first:,} to {plot.last:,}; last: served {points[-1]['served']:.4g}"
    drawn = join((*_axes(plot), *marks, *(_curve(plot, points, *curve) for curve in CURVES)))
    return tag("svg", drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=said)


def bar(share: float, left: str, right: str | None) -> Markup:
    """How the traffic is shared."""
    parts = [tag("div", left, class_="champion", style=f"width:{100 * (1 - share):.2f}%")]
    if right is not None and share > 0:
        parts.append(tag("div", right, class_="candidate", style=f"width:{100 * share:.2f}%"))
    return tag("div", *parts, class_="bar")


class _Plot:
    """The scales of a chart."""

    def __init__(self, points: Sequence[Mapping[str, Any]], *, is_share: bool) -> None:
        values = [float(point[key]) for point in points for key, _, _ in CURVES]
        low, high = min(values), max(values)
        pad = (high - low or 0.1) * 0.08
        self.low = low - pad if low < 0 else max(0.0, low - pad)
        self.high = min(1.0, high + pad) if is_share else high + pad
        self.is_share = is_share
        self.first, self.last = int(points[0]["outcomes"]), int(points[-1]["outcomes"])

    def x(self, outcomes: float) -> float:
        """The place of an outcome."""
        return LEFT + (WIDTH - LEFT) * (outcomes - self.first) / (self.last - self.first or 1)

    def y(self, value: float) -> float:
        """The place of a score."""
        return TOP + (HEIGHT - BOTTOM - TOP) * (1 - (value - self.low) / (self.high - self.low or 1))


def _axes(plot: _Plot) -> list[Markup]:
    drawn = []
    for step in range(STEPS):
        part = step / (STEPS - 1)
        value, outcomes = plot.low + (plot.high - plot.low) * part, plot.first + (plot.last - plot.first) * part
        y, anchor = f"{plot.y(value):.1f}", "end" if part == 1 else "middle" if part else "start"
        told = f"{value:.0%}" if plot.is_share else f"{value:.3g}"
        drawn += [
            tag("line", x1=LEFT, x2=WIDTH, y1=y, y2=y, class_="grid"),
            tag("text", told, x=LEFT - 6, y=y, text_anchor="end"),
            tag("text", f"{round(outcomes):,}", x=f"{plot.x(outcomes):.1f}", y=HEIGHT - 4, text_anchor=anchor),
        ]
    return drawn


def _mark(plot: _Plot, at: int, colour: str, form: str, title: str) -> Markup:
    x = f"{plot.x(at):.1f}"
    line = tag("line", x1=x, x2=x, y1=TOP, y2=HEIGHT - BOTTOM, stroke_dasharray="4 3", class_=colour)
    return tag("g", tag("title", title), line, tag("text", form, x=x, y=TOP - 3, text_anchor="middle", class_=colour))


def _curve(plot: _Plot, points: Sequence[Mapping[str, Any]], key: str, colour: str, dash: str | None) -> Markup:
    places = (f"{plot.x(point['outcomes']):.1f} {plot.y(point[key]):.1f}" for point in points)
    return tag("path", d="M" + "L".join(places), class_=colour, stroke_dasharray=dash)


def _drifts(drifts: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    return [(int(one["data"]["outcomes"]), one["what"]) for one in drifts if "outcomes" in (one.get("data") or {})]


def _promotions(points: Sequence[Mapping[str, Any]]) -> list[tuple[int, str]]:
    """The outcomes at which another line became champion."""
    lines = [line_of(point.get("champion") or point["version"]) for point in points]
    changed = (n for n in range(1, len(lines)) if lines[n] != lines[n - 1])
    return [(int(points[n]["outcomes"]), lines[n]) for n in changed]


def line_of(version: str) -> str:
    """The line of a version's name."""
    return version.rpartition("@")[0] or version
