"""What applying loop files would do, and whether they are sound."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from everloop.cli import diff_views
from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.cli.given_files import Files, find_loop_files, read_given
from everloop.cli.output import Data, Json, print_json, print_result
from everloop.client import Everloop
from everloop.errors import EverloopError, EverloopHTTPError
from everloop.loop_files import YAML, read_loop_file
from everloop.wire import loop_path

REFUSED = (409, 412, 413, 415, 422, 429)
"""The answers of the registry that say that the file would be refused; others are failures of the command."""
CHANGES = 3
"""The exit status that says that something would change: 2 is wrong use in every command."""
Markdown = Annotated[bool, typer.Option("--markdown", help="Print Markdown, for a comment or a job summary.")]
ExitCode = Annotated[
    bool, typer.Option("--exit-code", help=f"End with {CHANGES} where something would change, with 0 where nothing.")
]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("diff", epilog="Example: everloop diff -f churn.yaml")(diff)
    app.command("validate", epilog="Example: everloop validate -f churn.yaml")(validate)


def diff(
    files: Files, data: Data = None, as_json: Json = False, markdown: Markdown = False, exit_code: ExitCode = False
) -> None:
    """Show what applying loop files would do, without doing it: fields, windows, lines, and what is refused.

    The registry compares, by the rules of `apply`; nothing is stored. Windows that are kept go on with the values that
    they have; lines that are kept go on learning.
    """
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        found = [_compare(client, file) for file in find_loop_files(files)]
    _print(found, as_json, markdown, diff_views.table, diff_views.markdown)
    if any(one["change"] == "refused" for one in found):
        raise typer.Exit(1)
    if exit_code and any(one["change"] != "unchanged" for one in found):
        raise typer.Exit(CHANGES)


def validate(files: Files, as_json: Json = False, markdown: Markdown = False) -> None:
    """Check loop files without a registry: form, rules and features.

    Whether models can be built, what the installation has room for and what the loop is now, the registry knows alone:
    everloop diff.
    """
    from everloop.cli.validate import validate_file  # imports YAML and the registry's rules

    found = [validate_file(str(file), read_given(file)) for file in find_loop_files(files)]
    _print(found, as_json, markdown, diff_views.checked, diff_views.checked_markdown)
    if any(one["errors"] for one in found):
        raise typer.Exit(1)


def _compare(client: Everloop, file: Path) -> dict[str, Any]:
    """The registry's answer about a file, or why it would be refused."""
    try:
        loop, content = read_loop_file(read_given(file))
    except EverloopError as e:
        return {"file": str(file), "loop": None, "change": "refused", "detail": str(e), "errors": []}
    try:
        return {"file": str(file), **ask_by(client, "registry", loop_path(loop, "diff"), "POST", content, YAML)}
    except EverloopHTTPError as e:
        if e.status not in REFUSED:
            raise
        errors = [{"field": field, "error": error} for field, error in e.errors]
        refused = {"status": e.status, "code": e.code, "title": e.title, "detail": e.detail, "errors": errors}
        return {"file": str(file), "loop": loop, "change": "refused", **refused}


def _print(found: Sequence[Mapping[str, Any]], as_json: bool, markdown: bool, table: Any, text: Any) -> None:
    if as_json:
        print_json(found)
    elif markdown:
        typer.echo(text(found))
    else:
        print_result(*table(found))
