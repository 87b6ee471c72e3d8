"""The command that shows the lineage of a loop, and writes it to stores of other systems."""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.cli.output import Data, Json, Loop, print_json, print_result, print_stderr
from everloop.cli.tracing import show_trace
from everloop.client import Everloop
from everloop.errors import EverloopError, EverloopHTTPError
from everloop.extras import ExtraMissing

if TYPE_CHECKING:
    from everloop.lineage.graph import Lineage, Run
    from everloop.lineage.mlmd import MlmdWriter, Written

COMMAND = "everloop lineage --mlmd"
INSTALL = (
    "it needs Python 3.11 or older and protobuf 4, which the services do not go with, so make an environment for it: "
    "python3.11 -m venv mlmd && mlmd/bin/pip install everloop ml-metadata, then mlmd/bin/everloop lineage ..."
)
Store = Annotated[
    str | None,
    typer.Option("--mlmd", metavar="URI", help="Write to ML Metadata: sqlite:///FILE, or grpc://HOST:PORT."),
]
Pipeline = Annotated[
    str | None, typer.Option("--pipeline", metavar="NAME", help="The loop's name in that store. Default: LOOP.")
]
Prediction = Annotated[str | None, typer.Option("--prediction", metavar="ID", help="Where a prediction came from.")]
OfVersion = Annotated[
    str | None, typer.Option("--version", metavar="VERSION", help="Where a version came from, and what it predicted.")
]
OfRun = Annotated[str | None, typer.Option("--run", metavar="RUN", help="What a run came from, and its versions.")]
Drift = Annotated[str | None, typer.Option("--drift", metavar="ID", help="The runs and versions that a drift led to.")]
Role = Annotated[
    str | None, typer.Option("--role", metavar="ROLE", help="With --version: baseline, champion or canary alone.")
]
Before = Annotated[int | None, typer.Option("--before", min=1, help="With --run: the next page of its versions.")]
Limit = Annotated[int, typer.Option("--limit", min=1, max=200, help="Versions or predictions that are shown.")]
Follow = Annotated[bool, typer.Option("--follow", help="Go on, and write what is new, until interrupted.")]
Every = Annotated[float, typer.Option("--every", metavar="SECONDS", min=0.1, help="How often, with --follow.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("lineage", epilog="Example: everloop lineage churn --version logistic-0@499")(lineage)


def lineage(
    loop: Loop,
    mlmd: Store = None,
    pipeline: Pipeline = None,
    follow: Follow = False,
    every: Every = 5.0,
    prediction: Prediction = None,
    version: OfVersion = None,
    run: OfRun = None,
    drift: Drift = None,
    role: Role = None,
    before: Before = None,
    limit: Limit = 10,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show which data sets each run learned and which versions came of it, or write that to ML Metadata.

    With --prediction, --version, --run or --drift: where that one came from and what came of it, from the prediction
    to its version, the version's run, data set and decisions, and the drift behind the run, and back.
    To write to ML Metadata again changes only what is new, or is different now.
    """
    given = {"prediction": prediction, "version": version, "run": run, "drift": drift}
    if asked := {kind: name for kind, name in given.items() if name is not None}:
        if mlmd or follow or pipeline:
            raise typer.BadParameter("goes without --mlmd", param_hint=f"--{next(iter(asked))}")
        show_trace(loop, asked, data, as_json, role, before, limit)
        return
    if role or before:
        raise typer.BadParameter("goes with --version or --run", param_hint="--role" if role else "--before")
    if mlmd is None:
        if follow or pipeline:
            raise typer.BadParameter("goes with --mlmd", param_hint="--follow" if follow else "--pipeline")
        with Everloop(data, retry_for=RETRY_FOR_S) as client:
            found = _collect(client, loop)
        print_json(asdict(found)) if as_json else print_result(_table(found))
        return
    writer = _open(mlmd, pipeline or loop)
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        if not follow:
            _report(_write(client, loop, writer), mlmd, as_json)
        while follow:
            if written := _write_if_possible(client, loop, writer):
                _report(written, mlmd, as_json)
            time.sleep(every)


def _open(uri: str, pipeline: str) -> MlmdWriter:
    try:
        from everloop.lineage.mlmd import MlmdWriter, open_store
    except ModuleNotFoundError as e:
        raise ExtraMissing(f"{COMMAND} needs ml_metadata, and there is no module {e.name}; {INSTALL}") from e
    except Exception as e:  # a protobuf that does not fit makes it raise whatever it wants
        raise ExtraMissing(f"{COMMAND} needs ml_metadata, which cannot be imported here: {e!r:.300}; {INSTALL}") from e
    return MlmdWriter(open_store(uri), pipeline)


def _write(client: Everloop, loop: str, writer: MlmdWriter) -> Written:
    return writer.write(_collect(client, loop))


def _collect(client: Everloop, loop: str) -> Lineage:
    from everloop.lineage.collect import collect  # for this command alone

    return collect(loop, partial(ask_by, client))


def _write_if_possible(client: Everloop, loop: str, writer: MlmdWriter) -> Written | None:
    """None where the services or the store are away: the next turn writes it. Raises where a retry cannot help."""
    try:
        return _write(client, loop, writer)
    except EverloopHTTPError as e:
        if e.status < 500:
            raise
        print_stderr(f"everloop: {e}; trying again")
    except EverloopError as e:
        print_stderr(f"everloop: {e}; trying again")
    return None


def _report(written: Written, uri: str, as_json: bool) -> None:
    if as_json:
        print_json(asdict(written))
    else:
        print_result(f"{uri}: {written.runs} runs, {written.artifacts} artifacts and {written.events} events are new")


def _table(found: Lineage) -> Table:
    shown = Table("run", "state", "line", "trigger", "data set", "digest", "versions")
    for run in found.runs:
        digest = run.data_set.digest if run.data_set else None
        names = [version.name for version in run.versions]
        shown.add_row(
            run.name[:13], run.state, run.line, run.trigger or "", _learned(run), (digest or "")[:12], _some(names)
        )
    return shown


def _learned(run: Run) -> str:
    return _some([data_set.name for data_set in run.inputs()])


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} to {names[-1]} ({len(names)})"
