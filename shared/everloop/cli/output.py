"""How the program speaks: results on standard output, what went wrong on standard error, in one clear sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from typer.core import TyperGroup

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.local.errors import InstallationError

Data = Annotated[
    str | None,
    typer.Option("--data", metavar="DIR", help="The installation's folder. Default: EVERLOOP_DATA or .everloop."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Loop = Annotated[str, typer.Argument(metavar="LOOP", help="The loop's name.")]


class Failed(Exception):
    """What the command could not do, for people to read; ends with status 1."""


class Told(TyperGroup):
    """Ends every known failure with its sentence and status 1, and leaves tracebacks to EVERLOOP_DEBUG."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            fail("interrupted")
        except EverloopHTTPError as e:
            fail(*refusal(e))
        except InstallationError as e:
            fail(e.what, *([e.fix] if e.fix else []))
        except (EverloopError, Failed) as e:
            fail(str(e))
        except Exception as e:
            ends_by_itself = isinstance(e, typer.Abort) or hasattr(e, "exit_code")  # help, wrong use
            if ends_by_itself or os.environ.get("EVERLOOP_DEBUG"):
                raise
            fail(f"something broke here: {e!r}", "Set EVERLOOP_DEBUG=1 to see where.")


def refusal(error: EverloopHTTPError) -> list[str]:
    """A server's refusal, one line for each field that is wrong."""
    if error.errors:
        return [f"{field}: {wrong}" for field, wrong in error.errors]
    return [error.detail or f"{error.status} {error.title}"]


def fail(first: str, *more: str) -> NoReturn:
    """Say it on standard error, and end with status 1."""
    say(f"everloop: {first}", *more)
    raise typer.Exit(1)


def say(*lines: str) -> None:
    """Lines on standard error, as they are."""
    console = Console(stderr=True)
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def show(*renderables: Any) -> None:
    """For people, on standard output: colours on a terminal, plain text elsewhere."""
    console = Console()
    if not console.is_terminal:
        console.width = 250  # a pipe has no edge to fold at
    for renderable in renderables:
        console.print(renderable, markup=False, highlight=False, soft_wrap=isinstance(renderable, str))


def result(value: Any) -> None:
    """JSON on standard output, for programs."""
    typer.echo(json.dumps(value, ensure_ascii=False))


def rejected(rejections: Iterable[tuple[str, Iterable[tuple[str, str]]]]) -> None:
    """Name what was refused, on standard error."""
    for which, errors in rejections:
        say(*(f"{which}: {field}: {error}" for field, error in errors))
