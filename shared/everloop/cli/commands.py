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
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, print_stderr, read_answer
from everloop.errors import EverloopError
from everloop.wire import loop_path

File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="The loop file, YAML; - is standard input.")]
OneLoop = Annotated[str | None, typer.Argument(metavar="[LOOP]", help="The loop's name; all loops without one.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Version = Annotated[
    str | None, typer.Option("--to", metavar="VERSION", help="Roll back to this version, not to the previous one.")
]

AsOf = Annotated[
    str | None, typer.Option("--as-of", metavar="TIME", help="As it was then, RFC 3339: 2024-05-01T12:00:00Z.")
]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("apply", epilog="Example: everloop apply -f churn.yaml")(apply)
    app.command("status", epilog="Example: everloop status churn --json")(status)
    app.command("versions", epilog="Example: everloop versions churn")(versions)
    app.command("history", epilog="Example: everloop history churn --as-of 2024-05-01T12:00:00Z")(history)
    app.command("retrain", epilog="Example: everloop retrain churn --reason 'new prices'")(retrain)
    app.command("rollback", epilog="Example: everloop rollback churn --reason 'complaints since noon'")(rollback)
    app.command("delete", epilog="Example: everloop delete churn --reason 'the shop is closed'")(delete)
    app.command("resume", epilog="Example: everloop resume churn")(resume)


def apply(file: File, data: Data = None, as_json: Json = False) -> None:
    """Apply a loop file; returns once ingest, feature and serving use it."""
    from everloop.cli.apply import (
        apply_file,  # imports YAML and the spec's classes, which the other commands do without
    )

    applied = apply_file(file, data)
    if as_json:
        print_json(applied)
    else:
        print_result(f"{applied['loop']} {applied['change']}, revision {applied['revision']}")


def status(loop: OneLoop = None, data: Data = None, as_json: Json = False) -> None:
    """Show how a loop is doing, or all loops in a table."""
    if loop is not None:
        found = _get(loop, "/status", data)
        if sources := _find_sources(loop, data):
            found["sources"] = sources
        print_json(found) if as_json else print_result(views.status(loop, found))
        return
    names = [entry["loop"] for entry in ask("monitoring", "/v1/loops", data)["loops"]]
    all_loops = {name: _get(name, "/status", data) for name in names}
    if as_json:
        print_json(all_loops)
    elif not names:
        print_stderr("No loop is applied yet; describe one and apply it: everloop apply -f FILE.")
    else:
        print_result(views.loops(all_loops))


def versions(loop: Loop, as_of: AsOf = None, data: Data = None, as_json: Json = False) -> None:
    """List the versions of a loop's models, oldest first."""
    found = _get(loop, _as_of("/versions", as_of), data, "registry")
    print_json(found["versions"]) if as_json else print_result(views.versions(found["versions"]))


def history(loop: Loop, as_of: AsOf = None, data: Data = None, as_json: Json = False) -> None:
    """List every decision about a loop, oldest first, with its reason; with --as-of, those made until then."""
    found = _get(loop, _as_of("/history", as_of), data, "registry")
    print_json(found["decisions"]) if as_json else print_result(views.history(found["decisions"]))


def retrain(loop: Loop, reason: Reason = "requested by a person", data: Data = None, as_json: Json = False) -> None:
    """Start a fresh line of the champion's model now."""
    run = _post("training", loop, "/runs", {"reason": reason}, data)
    if as_json:
        print_json(run)
    elif run["run"] is None:
        print_result(run["detail"])
    else:
        print_result(f"run {run['run']} starts line {run['line']}; see it with: everloop history {loop}")


def rollback(
    loop: Loop,
    reason: Reason = "rolled back by a person",
    to: Version = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Roll back to the previous champion, and pin it until `resume`."""
    body = {"reason": reason} | ({"to": to} if to else {})
    state = _post("registry", loop, "/rollback", body, data)
    if as_json:
        print_json(state)
    elif state.get("rolled_back"):
        champion = state["champion"]["version"]
        print_result(
            f"{state['rolled_back']} is rolled back; {champion} is champion, pinned until: everloop resume {loop}"
        )
    else:
        print_result(f"{state['champion']['version']} is champion already, pinned until: everloop resume {loop}")


def resume(loop: Loop, reason: Reason = "resumed by a person", data: Data = None, as_json: Json = False) -> None:
    """Let gate and rollout act again after a rollback."""
    state = _post("registry", loop, "/resume", {"reason": reason}, data)
    if as_json:
        print_json(state)
    else:
        print_result(f"gate and rollout act again on {loop}; champion is {state['champion']['version']}")


def delete(
    loop: Loop,
    yes: Yes = False,
    reason: Reason = "deleted by a person",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Delete a loop: its models, windows and learners go, its log stays. Deleting it again changes nothing."""
    if not yes and read_answer(f"This deletes {loop}. Type its name to go on: ") != loop:
        raise CommandFailed(f"that is not {loop}: nothing was deleted; type the loop's name, or pass --yes")
    where = f"{loop_path(loop)}?{urlencode({'reason': reason})}"
    gone = ask("registry", where, data, method="DELETE", retry_for=30.0)
    if as_json:
        print_json(gone)
    else:
        print_result(f"{loop} is deleted; its decisions are kept: everloop history {loop}")


def _find_sources(loop: str, data: str | None) -> Any:
    """How the loop's Kafka sources fare; None where ingest does not answer."""
    with suppress(EverloopError):
        return ask("ingest", loop_path(loop) + "/sources", data, retry_for=0.5)["sources"]
    return None


def _as_of(path: str, moment: str | None) -> str:
    return path if moment is None else f"{path}?{urlencode({'as_of': moment})}"


def _get(loop: str, what: str, data: str | None, service: str = "monitoring") -> Any:
    return ask(service, loop_path(loop) + what, data)


def _post(service: str, loop: str, what: str, body: dict[str, Any], data: str | None) -> Any:
    return ask(service, loop_path(loop) + what, data, method="POST", content=json.dumps(body).encode(), retry_for=30.0)
