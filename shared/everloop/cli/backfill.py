"""The command that loads history into a loop."""

from __future__ import annotations

from typing import Annotated

import typer

from everloop.cli.output import Data, Json, Loop

SourceName = Annotated[
    str,
    typer.Argument(
        metavar="SOURCE",
        help="A Parquet, CSV or NDJSON file or a folder of them (a path, s3://, gs://), an archive, "
        "bigquery://PROJECT.DATASET.TABLE, or a query for BigQuery.",
    ),
]
Time = Annotated[str | None, typer.Option("--time", metavar="C", help="The column with the times. Default: time.")]
Label = Annotated[str | None, typer.Option("--label", metavar="C", help="The column with the labels.")]
Entity = Annotated[str | None, typer.Option("--entity", metavar="C", help="Whom or what a row is about.")]
Id = Annotated[str | None, typer.Option("--id", metavar="C", help="Ids. Default: from the content of rows.")]
FromLoop = Annotated[
    str | None, typer.Option("--from-loop", metavar="LOOP", help="The loop in an archive. Default: LOOP.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Read and check all rows, and send nothing.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    example = "Example: everloop backfill churn history.parquet --time at --label churned --entity customer"
    app.command("backfill", epilog=example)(backfill)


def backfill(
    loop: Loop,
    source: SourceName,
    time: Time = None,
    label: Label = None,
    entity: Entity = None,
    id_column: Id = None,
    from_loop: FromLoop = None,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Load history into a loop, in the order of its times: observations with their own times, each followed by its
    label.

    The same history again changes nothing. Refused rows are reported by field and left out, and are no failure.
    """
    from everloop.cli.backfilling import BackfillRequest, run  # imports the spec's classes

    run(BackfillRequest(loop, data, source, time, label, entity, id_column, from_loop, dry_run, as_json))
