"""The command that reads a data set into a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, progress_bar
from everloop.client import Everloop
from everloop.data_sets import DataSet

RETRY_FOR_S = 10.0
FORMATS = (".parquet", ".csv", ".ndjson")
Named = Annotated[str, typer.Argument(metavar="LOOP", help="A loop, or a data set: LOOP@START..END#REVISION.")]
Last = Annotated[int | None, typer.Option("--last", metavar="N", min=1, help="The last N outcomes.")]
Start = Annotated[int | None, typer.Option("--start", metavar="OFFSET", min=0, help="From this offset of the log on.")]
End = Annotated[int | None, typer.Option("--end", metavar="OFFSET", min=0, help="Up to and including this offset.")]
Since = Annotated[str | None, typer.Option("--from", metavar="TIME", help="Observed at this time or later, RFC 3339.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="Observed before this time, RFC 3339.")]
Output = Annotated[
    str | None,
    typer.Option("--output", "-o", metavar="FILE", help="FILE.parquet, .csv or .ndjson; - is JSON lines to a pipe."),
]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("dataset", epilog="Example: everloop dataset churn --last 50000 -o churn.parquet")(dataset)


def dataset(
    loop: Named,
    last: Last = None,
    start: Start = None,
    end: End = None,
    since: Since = None,
    until: Until = None,
    output: Output = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Read what models learn of a loop, features as they were used and labels: all of it, or a range."""
    kind = None if output in (None, "-") else Path(output or "").suffix.lower()
    if kind is not None and kind not in FORMATS:
        raise typer.BadParameter(f"{output!r} must end with {', '.join(FORMATS)}", param_hint="--output")
    if output == "-" and as_json:
        raise typer.BadParameter("standard output is for the rows; leave out --json, or name a file", param_hint="-o")
    found = _read(data, loop, last=last, start=start, end=end, since=since, until=until)
    if output is not None:
        _write(found, output, kind)
    if output != "-":
        _report(found, output, as_json)


def _read(data: str | None, loop: str, **asked: Any) -> DataSet:
    columns = (MofNCompleteColumn(), TimeRemainingColumn())
    with Everloop(data, retry_for=RETRY_FOR_S) as client, progress_bar(*columns) as bar:
        task = bar.add_task("reading the log", total=None)

        def show(rows: int, of: int) -> None:
            bar.update(task, description="rows", completed=rows, total=of)

        return client.dataset(loop, on_progress=show, **asked)


def _write(found: DataSet, output: str, kind: str | None) -> None:
    try:
        if kind == ".parquet":
            found.to_parquet(output)
        elif kind == ".csv":
            found.to_csv(output)
        else:
            found.to_ndjson(sys.stdout.buffer if output == "-" else output)
            sys.stdout.flush()
    except OSError as e:
        raise CommandFailed(f"{output} cannot be written: {e.strerror or e}") from e


def _report(found: DataSet, output: str | None, as_json: bool) -> None:
    about: dict[str, Any] = {"name": found.name, "digest": found.digest, "rows": len(found), "erased": found.erased}
    if as_json:
        print_json(about | ({"file": output} if output else {}))
    else:
        where = f" in {output}" if output else ""
        lacks = f", without {found.erased:,} outcomes of erased persons" if found.erased else ""
        print_result(f"{found.name}, {len(found):,} rows{lacks}{where}, sha256 {found.digest}")
