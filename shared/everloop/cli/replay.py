"""The command that plays a CSV file into a loop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.output import Data, Json, Loop

Csv = Annotated[Path, typer.Argument(metavar="FILE", help="CSV with a header, plain or .gz.")]
LabelColumn = Annotated[str | None, typer.Option("--label-column", metavar="C", help="The column with the labels.")]
EntityColumn = Annotated[str | None, typer.Option("--entity-column", metavar="C", help="Whom or what a row is about.")]
IdColumn = Annotated[str | None, typer.Option("--id-column", metavar="C", help="Ids. Default: from file and row.")]
TimeColumn = Annotated[str | None, typer.Option("--time-column", metavar="C", help="When it happened. Default: now.")]
Rate = Annotated[
    str, typer.Option("--rate", metavar="N|max", help="Rows per second; max: as fast as the loop predicts them.")
]
Delay = Annotated[
    int | None,
    typer.Option(
        "--label-delay",
        metavar="ROWS",
        min=1,
        help="Send the label of a row before the row this many rows later; 1 sends one row at a time, which is slow. "
        "Default: rows in batches of up to 100, each followed by its labels; 1 in a loop with lag: label.",
    ),
]
Skip = Annotated[int, typer.Option("--skip", metavar="N", min=0, help="Leave out the first N rows.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", min=0, help="Play at most N rows.")]
Lockstep = Annotated[bool, typer.Option("--lockstep", help="Wait for each outcome before the next row.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    example = "Example: everloop replay electricity electricity.csv.gz --label-column class --rate 200"
    app.command("replay", epilog=example)(replay)


def replay(
    loop: Loop,
    file: Csv,
    label_column: LabelColumn = None,
    entity_column: EntityColumn = None,
    id_column: IdColumn = None,
    time_column: TimeColumn = None,
    rate: Rate = "max",
    label_delay: Delay = None,
    skip: Skip = 0,
    limit: Limit = None,
    lockstep: Lockstep = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Play a CSV file into a loop; a second replay of a file changes nothing. Refused rows are named and left out, and
    are no failure.

    Features are the same however fast it plays. How many labels the model has learned from at each prediction is not:
    with --lockstep it is those of all rows before, otherwise those that the loop has processed by then.
    """
    from everloop.cli.playing import Columns, ReplayRequest, play  # imports the spec's classes

    columns = Columns(label_column, entity_column, id_column, time_column)
    play(ReplayRequest(loop, data, file, columns, skip, limit, label_delay, _rate(rate), lockstep, as_json))


def _rate(text: str) -> float | None:
    if text == "max":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e6:
        raise typer.BadParameter(f"{text!r} is neither max nor a number of rows per second", param_hint="--rate")
    return rate
