"""The commands about loops and their models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from everloop.cli import views
from everloop.cli.ask import ask
from everloop.cli.output import Data, Json, Loop, result, say, show

File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The loop file, YAML; - is standard input.")]
OneLoop = Annotated[str | None, typer.Argument(metavar="[LOOP]", help="The loop's name; all loops without one.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
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


def _of(loop: str, what: str, data: str | None, service: str = "monitoring") -> Any:
    return ask(service, f"/v1/loops/{quote(loop, safe='')}{what}", data)


def _tell(service: str, loop: str, what: str, body: dict[str, Any], data: str | None) -> Any:
    path = f"/v1/loops/{quote(loop, safe='')}{what}"
    return ask(service, path, data, method="POST", content=json.dumps(body).encode(), retry_for=30.0)
