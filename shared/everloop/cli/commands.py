"""The commands about loops and their models."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from everloop.cli import views
from everloop.cli.ask import RETRY_FOR_S, ask, ask_by, patient
from everloop.cli.given_files import read_given
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, print_stderr, read_answer
from everloop.client import Everloop
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
    with patient(data) as client:
        applied = client.apply(read_given(file))
    if as_json:
        print_json(asdict(applied))
    else:
        print_result(f"{applied.loop} {applied.change}, revision {applied.revision}")


def status(loop: OneLoop = None, data: Data = None, as_json: Json = False) -> None:
    """Show how a loop is doing, or all loops in a table."""
    if loop is not None:
        with Everloop(data, retry_for=RETRY_FOR_S) as client:
            found = client.status(loop)
        if sources := _find_sources(loop, data):
            found["sources"] = sources
        print_json(found) if as_json else print_result(views.status(loop, found))
        return
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        names = [entry["loop"] for entry in ask_by(client, "monitoring", "/v1/loops")["loops"]]
        all_loops = {name: client.status(name) for name in names}
    if as_json:
        print_json(all_loops)
    elif not names:
        print_stderr("No loop is applied yet; describe one and apply it: everloop apply -f FILE.")
    else:
        print_result(views.loops(all_loops))


def versions(loop: Loop, as_of: AsOf = None, data: Data = None, as_json: Json = False) -> None:
    """List the versions of a loop's models, oldest first."""
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        found = client.versions(loop, as_of=as_of)
    print_json(found) if as_json else print_result(views.versions(found))


def history(loop: Loop, as_of: AsOf = None, data: Data = None, as_json: Json = False) -> None:
    """List every decision about a loop, oldest first, with its reason; with --as-of, those made until then."""
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        found = client.history(loop, as_of=as_of)
    print_json(found) if as_json else print_result(views.history(found))


def retrain(loop: Loop, reason: Reason = "requested by a person", data: Data = None, as_json: Json = False) -> None:
    """Start a fresh line of the champion's model now."""
    with patient(data) as client:
        run = client.retrain(loop, reason=reason)
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
    with patient(data) as client:
        state = client.rollback(loop, reason=reason, to=to or None)
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
    with patient(data) as client:
        state = client.resume(loop, reason=reason)
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
    with patient(data) as client:
        gone = client.delete(loop, reason=reason)
    if as_json:
        print_json(gone)
    else:
        print_result(f"{loop} is deleted; its decisions are kept: everloop history {loop}")


def _find_sources(loop: str, data: str | None) -> Any:
    """How the loop's Kafka sources fare; None where ingest does not answer."""
    with suppress(EverloopError):
        return ask("ingest", loop_path(loop) + "/sources", data, retry_for=0.5)["sources"]
    return None
