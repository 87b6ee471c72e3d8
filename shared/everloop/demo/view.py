"""How the demo looks: a live terminal view, or plain lines where there is no terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.layout import Layout
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from everloop.demo.story import Moment, Story

CHART_WIDTH, CHART_HEIGHT = 72, 12
SERIES = (("served", "bold green", 1), ("no change", "yellow", 2), ("majority", "blue", 3))
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


def chart(points: list[tuple[int, float, float, float]], last: int, marks: list[int]) -> Text:
    """Rolling accuracies over outcomes as a braille plot; `marks` are outcomes to draw a vertical line at."""
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    width, height = CHART_WIDTH * 2, CHART_HEIGHT * 4
    for mark in marks:
        column = min(mark * CHART_WIDTH // max(last, 1), CHART_WIDTH - 1)
        cells |= {(row, column): (0x47, "magenta") for row in range(CHART_HEIGHT)}
    for _, style, index in reversed(SERIES):
        for point in points:
            x = min(point[0] * width // max(last, 1), width - 1)
            y = min(int((1 - point[index]) * height), height - 1)
            cell = (y // 4, x // 2)
            dots = cells.get(cell, (0, style))[0] if cells.get(cell, (0, ""))[1] == style else 0
            cells[cell] = (dots | _DOTS[y % 4][x % 2], style)
    text = Text()
    for row in range(CHART_HEIGHT):
        text.append(f"{100 - row * 100 // CHART_HEIGHT:>4} ", style="dim")
        for column in range(CHART_WIDTH):
            dots, style = cells.get((row, column), (0, ""))
            text.append(chr(0x2800 + dots), style=style)
        text.append("\n")
    text.append("     ")
    for name, style, index in SERIES:
        value = f"{points[-1][index]:.1%}" if points else "-"
        text.append(f"{name} {value}   ", style=style)
    return text


def versions(story: Story) -> RenderableType:
    """The live versions, with the share that each should have and its share of the last 100 outcomes."""
    table = Table(box=None, expand=True, padding=(0, 1))
    table.add_column("version")
    table.add_column("role")
    table.add_column("share", justify="right")
    table.add_column("served", width=12)
    if story.state is None:
        return table
    data = story.state.data
    live = [(data.champion.version, "champion", 1 - data.share)]
    if data.candidate:
        live.append((data.candidate.version, data.stage, data.share))
    for version, role, share in live:
        name = "0 (majority)" if version == "0" else version
        table.add_row(name, role, f"{share:.0%}", ProgressBar(total=1, completed=story.share_of(version), width=12))
    table.add_row("", "", "", "")
    table.add_row(f"[dim]{story.refreshes} refreshes, {len(story.promotions)} promotions[/dim]", "", "", "")
    return table


def line(moment: Moment) -> str:
    """A moment in one plain line."""
    return f"{moment.time:%H:%M:%S}  {moment.outcomes:>6,}  {moment.what:<15} {moment.why}"


def screen(story: Story, rows: int, sent: int, phase: str, console_url: str) -> RenderableType:
    """The whole live view."""
    layout = Layout()
    layout.split_column(
        Layout(name="top", size=3), Layout(name="middle", size=CHART_HEIGHT + 4), Layout(name="timeline")
    )
    head = Table.grid(expand=True)
    head.add_column(ratio=3)
    head.add_column(ratio=2)
    head.add_row(Text(phase, style="bold"), ProgressBar(total=rows, completed=sent))
    layout["top"].update(Panel(head, title=f"Everloop demo: electricity market   {console_url}"))
    layout["middle"].split_row(Layout(name="chart", ratio=5), Layout(name="versions", ratio=3))
    marks = [story.recovery.onset.outcomes] if story.recovery.onset else []
    layout["chart"].update(Panel(chart(story.points, rows, marks), title="accuracy, last 200 outcomes, %"))
    layout["versions"].update(Panel(versions(story), title="live versions"))
    moments = [Text(line(m), style=m.style, no_wrap=True, overflow="ellipsis") for m in story.timeline[-30:]]
    layout["timeline"].update(Panel(Group(*reversed(moments)), title="what happened, and why (newest first)"))
    return layout


def report(story: Story) -> RenderableType:
    """The end: how long each step of the recovery took, in outcomes and seconds, and the accuracies."""
    steps = story.recovery
    table = Table(title="From drift to recovery", title_justify="left")
    table.add_column("step")
    table.add_column("outcomes after onset", justify="right")
    table.add_column("seconds after onset", justify="right")
    for name, moment in [
        ("onset", steps.onset),
        ("detected", steps.detected),
        ("trained", steps.trained),
        ("champion", steps.champion),
    ]:
        if steps.onset is None or moment is None:
            table.add_row(name, "-", "-")
            continue
        seconds = (moment.time - steps.onset.time).total_seconds()
        table.add_row(name, f"{moment.outcomes - steps.onset.outcomes:,}", f"{max(seconds, 0):.1f}")
    accuracy = (
        f"Accuracy of the last 200 served: {steps.accuracy_before:.1%} before, "
        f"{steps.accuracy_bottom:.1%} at the bottom, {story.rolling():.1%} after."
    )
    return Group(table, Text(accuracy, style="bold"))
