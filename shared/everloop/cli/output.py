"""The output of the program: results on standard output, errors on standard error, in one clear sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.extras import ExtraMissing
from everloop.local.errors import InstallationError

Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="The local installation. Default: EVERLOOP_DATA or .everloop."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Loop = Annotated[str, typer.Argument(metavar="LOOP", help="The loop's name.")]


class CommandFailed(Exception):
    """What the command could not do, for people to read; ends with status 1."""


class EverloopGroup(TyperGroup):
    """Ends every known failure with its sentence and status 1 or 2; EVERLOOP_DEBUG shows tracebacks."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted")
        except EverloopHTTPError as e:
            fail(*refusal(e))
        except ExtraMissing as e:
            print_stderr(f"everloop: {e}")
            raise typer.Exit(2) from e
        except InstallationError as e:
            fail(e.what, *([e.fix] if e.fix else []))
        except (EverloopError, CommandFailed) as e:
            fail(str(e))
        except Exception as e:
            exits = isinstance(e, typer.Abort) or hasattr(e, "exit_code")  # help, wrong use
            if exits or os.environ.get("EVERLOOP_DEBUG"):
                raise
            fail(f"internal error: {e!r}", "Set EVERLOOP_DEBUG=1 for the traceback.")


def refusal(error: EverloopHTTPError) -> list[str]:
    """A refusal, one line for each field that is wrong."""
    if error.errors:
        return [f"{field}: {wrong}" for field, wrong in error.errors]
    return [error.detail or f"{error.status} {error.title}"]


def fail(first: str, *more: str) -> NoReturn:
    """Print the error on standard error, and end with status 1."""
    print_stderr(f"everloop: {first}", *more)
    raise typer.Exit(1)


def print_stderr(*lines: str) -> None:
    """Print lines on standard error, as they are."""
    console = Console(stderr=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def print_result(*renderables: Any) -> None:
    """Print for people, on standard output: colours on a terminal, plain text elsewhere."""
    console = Console()
    if not console.is_terminal:
        console.width = 250  # a pipe has no edge to fold at
    for renderable in renderables:
        console.print(renderable, markup=False, highlight=False, soft_wrap=isinstance(renderable, str))


def print_json(value: Any) -> None:
    """Print JSON on standard output, for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def print_rejected(entries: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> None:
    """Name the entries that were refused, on standard error."""
    for entry, errors in entries:
        print_stderr(*(f"{entry}: {field}: {error}" for field, error in errors))
