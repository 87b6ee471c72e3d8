"""The command that learns a version again and proves that it is the same."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer
from rich.progress import MofNCompleteColumn, TimeElapsedColumn

from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, progress_bar
from everloop.client import Everloop
from everloop.extras import require_local
from everloop.rebuilding.rebuild import Rebuilt, find_origin
from everloop.rebuilding.rebuild import rebuild as make_again

Version = Annotated[str, typer.Argument(metavar="VERSION", help="The version's name; or champion, or candidate.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("rebuild", epilog="Example: everloop rebuild churn champion")(rebuild)


def rebuild(loop: Loop, version: Version, data: Data = None, as_json: Json = False) -> None:
    """Learn a version again from its manifest and the log, in a process of its own, and prove that it is the same.

    What it learns are the outcomes that the manifest names, with the model and seed of the loop's file of that time.
    Both are the same if their bytes are; otherwise the status is 1, and what may be the reason is said. Outcomes of
    persons who were erased are left out.
    """
    require_local("everloop rebuild")
    columns = (MofNCompleteColumn(), TimeElapsedColumn())
    with Everloop(data, retry_for=RETRY_FOR_S) as client, progress_bar(*columns) as bar:
        origin = find_origin(loop, version, partial(ask_by, client))
        task = bar.add_task("reading the log", total=None)

        def show(rows: int, of: int) -> None:
            bar.update(task, description="rows", completed=rows, total=of)

        rows = client.dataset(origin.data_set, on_progress=show)
        bar.update(task, description=f"learning {origin.version}", total=None)
        made = make_again(origin, rows, bar.refresh)
    if as_json:
        print_json(_described(loop, made))
    if not made.is_identical:
        why = "; ".join(made.differences) or "outcomes, model and libraries are the same, so one of the two was changed"
        raise CommandFailed(f"{origin.version} is not the same when it is learned again: {why}")
    if not as_json:
        told = f"{made.outcomes:,} outcomes in {made.seconds:.1f} s, sha256 {made.sha256}"
        print_result(f"{origin.version} is the same when it is learned again: {told}")


def _described(loop: str, made: Rebuilt) -> dict[str, object]:
    return {
        "loop": loop,
        "version": made.origin.version,
        "identical": made.is_identical,
        "sha256": made.sha256,
        "expected": made.origin.registered["sha256"],
        "size": made.size,
        "outcomes": made.outcomes,
        "erased": made.erased,
        "data_set": made.origin.data_set,
        "differences": made.differences if not made.is_identical else [],
    }
