"""The output of the program: results on standard output, errors on standard error, in one clear sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from inspect import signature
from typing import Annotated, Any, NoReturn, TypeGuard

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, TextColumn
from typer.core import TyperCommand

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.extras import ExtraMissing
from everloop.local.errors import InstallationError
from everloop_shared.clock import read_time

Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="The local installation. Default: EVERLOOP_DATA or .everloop."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
WRONG_USE = 2
EXIT_STATUS = "Exit status: 0 done; 1 failed or refused, in whole or in part; 2 wrong use. Errors are on standard error"
EXIT_STATUS_JSON = f"{EXIT_STATUS}; with --json, a failure is also a problem (RFC 9457) on standard output."
Loop = Annotated[str, typer.Argument(metavar="LOOP", help="The loop's name.")]


class CommandFailed(Exception):
    """What the command could not do, for people to read; ends with status 1."""


def describe_exits(app: typer.Typer) -> None:
    """Let every command of the program end its failures alike, and say so in its help."""
    for command in app.registered_commands:
        command.cls = EverloopCommand
        has_json = "as_json" in signature(command.callback).parameters if command.callback else False
        command.epilog = f"{command.epilog}\n\n{EXIT_STATUS_JSON if has_json else EXIT_STATUS + '.'}"
    for group in app.registered_groups:
        if group.typer_instance is not None:
            describe_exits(group.typer_instance)


class EverloopCommand(TyperCommand):
    """Ends every known failure with its sentence and status 1 or 2; EVERLOOP_DEBUG shows tracebacks.

    With --json, the failure is a problem (RFC 9457) on standard output, too.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except Exception as e:
            if _is_wrong_use(e) and "--json" in given:
                _print_problem("Wrong use", e.format_message())
            raise

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        as_json = bool(ctx.params.get("as_json"))
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted", as_json=as_json)
        except EverloopHTTPError as e:
            if as_json:
                _print_problem(e.title, e.detail, e.status, e.errors, e.code)
            fail(*refusal(e))
        except ExtraMissing as e:
            if as_json:
                _print_problem("Extra missing", str(e))
            print_stderr(f"everloop: {e}")
            raise typer.Exit(2) from e
        except InstallationError as e:
            fail(e.what, *([e.fix] if e.fix else []), as_json=as_json)
        except (EverloopError, CommandFailed) as e:
            fail(str(e), as_json=as_json)
        except Exception as e:
            if as_json and _is_wrong_use(e):
                _print_problem("Wrong use", e.format_message())
            exits = isinstance(e, typer.Abort) or hasattr(e, "exit_code")  # help, wrong use
            if exits or os.environ.get("EVERLOOP_DEBUG"):
                raise
            fail(f"internal error: {e!r}", "Set EVERLOOP_DEBUG=1 for the traceback.", as_json=as_json)


def _is_wrong_use(error: Any) -> TypeGuard[typer.BadParameter]:
    return getattr(error, "exit_code", None) == WRONG_USE and hasattr(error, "format_message")


def _print_problem(
    title: str, detail: str, status: int | None = None, errors: Sequence[tuple[str, str]] = (), code: str | None = None
) -> None:
    """The failure of the command as problem details (RFC 9457)."""
    problem: dict[str, Any] = {"type": "about:blank", "title": title, "status": status, "code": code, "detail": detail}
    problem["errors"] = [{"field": field, "error": wrong} for field, wrong in errors] or None
    print_json({name: value for name, value in problem.items() if value is not None})


def refusal(error: EverloopHTTPError) -> list[str]:
    """A refusal, one line for each field that is wrong."""
    if error.errors:
        return [f"{field}: {wrong}" for field, wrong in error.errors]
    return [error.detail or f"{error.status} {error.title}"]


def fail(first: str, *more: str, as_json: bool = False) -> NoReturn:
    """Print the error on standard error, with `as_json` as a problem on standard output too, and end with status 1."""
    if as_json:
        _print_problem("Command failed", " ".join((first, *more)))
    print_stderr(f"everloop: {first}", *more)
    raise typer.Exit(1)


def print_stderr(*lines: str) -> None:
    """Print lines on standard error, as they are."""
    console = Console(stderr=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error with these columns behind it, gone in the end; none where that is no terminal."""
    console = Console(stderr=True)
    shown = (TextColumn("{task.description}"), BarColumn(), *columns)
    return Progress(*shown, console=console, disable=not console.is_terminal, transient=True)


def print_result(*renderables: Any) -> None:
    """Print for people, on standard output: colours on a terminal, plain text elsewhere."""
    console = Console()
    if not console.is_terminal:
        console.width = 250  # a pipe has no edge to fold at
    for renderable in renderables:
        console.print(renderable, markup=False, highlight=False, soft_wrap=isinstance(renderable, str))


def printable(text: object, but: str = "") -> str:
    """Text from elsewhere for a terminal: control characters and those without a shape are escaped, except `but`."""
    return "".join(c if c.isprintable() or c in but else c.encode("unicode_escape").decode() for c in str(text))


def print_json(value: Any) -> None:
    """Print JSON on standard output, for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_rejected(entries: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> None:
    """Name the entries that were refused, on standard error."""
    for entry, errors in entries:
        print_stderr(*(f"{entry}: {field}: {error}" for field, error in errors))


def read_answer(question: str) -> str:
    """What a person answers to a question on standard error: standard output is the result's."""
    typer.echo(question, nl=False, err=True)
    return typer.get_text_stream("stdin").readline().strip()


def read_moment(option: str, text: str | None) -> datetime | None:
    """The time that an option gives; None without it. Raises CommandFailed."""
    if text is None:
        return None
    if (moment := read_time(text)) is None:
        raise CommandFailed(f"{option}: {text[:40]!r} is no RFC 3339 time with an offset, such as 2024-05-01T12:00:00Z")
    return moment
