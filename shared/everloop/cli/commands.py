"""The commands about loops and their models."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer

from everloop.cli import views
from everloop.cli.ask import ask
from everloop.cli.output import Data, Failed, Json, Loop, result, say, show
from everloop.errors import EverloopError
from everloop.wire import path

File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The loop file, YAML; - is standard input.")]
OneLoop = Annotated[str | None, typer.Argument(metavar="[LOOP]", help="The loop's name; all loops without one.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Version = Annotated[
    str | None, typer.Option("--to", metavar="VERSION", help="Go back to this version, not the one before.")
]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("apply", epilog="Example: everloop apply -f churn.yaml")(apply)
    app.command("status", epilog="Example: everloop status churn --json")(status)
    app.command("versions", epilog="Example: everloop versions churn")(versions)
    app.command("history", epilog="Example: everloop history churn")(history)
    app.command("retrain", epilog="Example: everloop retrain churn --reason 'new prices'")(retrain)
    app.command("rollback", epilog="Example: everloop rollback churn --reason 'complaints since noon'")(rollback)
    app.command("delete", epilog="Example: everloop delete churn --reason 'the shop is closed'")(delete)
    app.command("resume", epilog="Example: everloop resume churn")(resume)


def apply(file: File, data: Data = None, as_json: Json = False) -> None:
    """Apply a loop file; returns once ingest, feature and serving work by it."""
    from everloop.cli.apply import apply_file  # brings YAML and the spec's classes, which the others do without

    applied = apply_file(file, data)
    if as_json:
        result(applied)
    else:
        show(f"{applied['loop']} {applied['change']}, revision {applied['revision']}")


def status(loop: OneLoop = None, data: Data = None, as_json: Json = False) -> None:
    """Show how a loop is doing, or all loops in a table."""
    if loop is not None:
        found = _of(loop, "/status", data)
        if instead := _served_instead(loop, data):
            found["champion"]["serving"] = instead
        result(found) if as_json else show(views.status(loop, found))
        return
    names = [entry["loop"] for entry in ask("monitoring", "/v1/loops", data)["loops"]]
    all_loops = {name: _of(name, "/status", data) for name in names}
    if as_json:
        result(all_loops)
    elif not names:
        say("No loop is applied yet; describe one and apply it: everloop apply -f FILE.")
    else:
        show(views.loops(all_loops))


def versions(loop: Loop, data: Data = None, as_json: Json = False) -> None:
    """List the versions of a loop's models, oldest first."""
    found = _of(loop, "/versions", data, "registry")
    result(found["versions"]) if as_json else show(views.versions(found["versions"]))


def history(loop: Loop, data: Data = None, as_json: Json = False) -> None:
    """List every decision about a loop, oldest first, with its reason."""
    found = _of(loop, "/history", data, "registry")
    result(found["decisions"]) if as_json else show(views.history(found["decisions"]))


def retrain(loop: Loop, reason: Reason = "asked for by a person", data: Data = None, as_json: Json = False) -> None:
    """Start a fresh line of the champion's model now."""
    run = _tell("training", loop, "/runs", {"reason": reason}, data)
    if as_json:
        result(run)
    elif run["run"] is None:
        show(run["detail"])
    else:
        show(f"run {run['run']} starts line {run['line']}; see it with: everloop history {loop}")


def rollback(
    loop: Loop,
    reason: Reason = "taken back by a person",
    to: Version = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Take the champion back to the one before it, and keep it there until `resume`."""
    body = {"reason": reason} | ({"to": to} if to else {})
    state = _tell("registry", loop, "/rollback", body, data)
    if as_json:
        result(state)
    elif state.get("rolled_back"):
        show(f"{state['rolled_back']} is taken back; champion is {state['champion']['version']}, until: resume {loop}")
    else:
        show(f"champion is {state['champion']['version']} already, until: everloop resume {loop}")


def resume(loop: Loop, reason: Reason = "resumed by a person", data: Data = None, as_json: Json = False) -> None:
    """Let gate and rollout act again after a rollback."""
    state = _tell("registry", loop, "/resume", {"reason": reason}, data)
    if as_json:
        result(state)
    else:
        show(f"gate and rollout act again on {loop}; champion is {state['champion']['version']}")


def delete(
    loop: Loop,
    yes: Yes = False,
    reason: Reason = "deleted by a person",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Delete a loop: its models, windows and learners go, its log stays. Deleting it again changes nothing."""
    if not yes and _typed(f"This deletes {loop}. Type its name to go on: ") != loop:
        raise Failed(f"that is not {loop}: nothing was deleted; type the loop's name, or say --yes")
    where = f"{path(loop)}?{urlencode({'reason': reason})}"
    gone = ask("registry", where, data, method="DELETE", retry_for=30.0)
    if as_json:
        result(gone)
    else:
        show(f"{loop} is deleted; its decisions are left: everloop history {loop}")


def _typed(question: str) -> str:
    typer.echo(question, nl=False, err=True)  # standard output is the result's
    return typer.get_text_stream("stdin").readline().strip()


def _served_instead(loop: str, data: str | None) -> Any:
    """What instances serve that cannot load the champion; nothing where the registry does not answer."""
    with suppress(EverloopError):
        state = ask("registry", path(loop), data, retry_for=0.5)
        return state.get("champion", {}).get("serving")
    return None


def _of(loop: str, what: str, data: str | None, service: str = "monitoring") -> Any:
    return ask(service, path(loop) + what, data)


def _tell(service: str, loop: str, what: str, body: dict[str, Any], data: str | None) -> Any:
    return ask(service, path(loop) + what, data, method="POST", content=json.dumps(body).encode(), retry_for=30.0)
