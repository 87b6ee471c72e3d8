"""The commands about alerts: what is open, and who is not to be told for a while."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from everloop.cli.ask import RETRY_FOR_S, ask
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, print_stderr
from everloop.client import Everloop
from everloop.wire import loop_path

All = Annotated[bool, typer.Option("--all", help="What happened to alerts lately, also to those that are over.")]
For = Annotated[str | None, typer.Option("--for", metavar="DURATION", help="Such as 2h, at most 30d.")]
Kind = Annotated[str | None, typer.Option("--kind", metavar="KIND", help="Only alerts of this kind, such as drift.")]
Alert = Annotated[str | None, typer.Option("--alert", metavar="ALERT", help="Only this alert, by its name.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who wonder.")]
End = Annotated[str | None, typer.Option("--end", metavar="ID", help="End this silence.")]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("alerts", epilog="Example: everloop alerts churn")(alerts)
    app.command("silence", epilog="Example: everloop silence churn --kind drift --for 2h --reason 'new prices'")(
        silence
    )


def alerts(loop: Loop, every: All = False, data: Data = None, as_json: Json = False) -> None:
    """List a loop's open alerts, with what they rest on and what Everloop does about them."""
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        found = client.alerts(loop, all=every)
    if as_json:
        print_json(found)
    elif not found:
        print_stderr(f"No alert of {loop} is open." if not every else f"{loop} never had an alert.")
    else:
        print_result(_history(found) if every else Group(*(_panel(one) for one in found)))


def silence(
    loop: Loop,
    lasts: For = None,
    kind: Kind = None,
    alert: Alert = None,
    reason: Reason = "silenced by a person",
    end: End = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Do not tell receivers of a loop's alerts for a while; without --for and --end, list the silences."""
    path = loop_path(loop) + "/silences"
    if end is not None:
        if lasts is not None:
            raise CommandFailed("--end ends a silence, and --for makes one: give one of them")
        ended = ask("monitoring", f"{path}/{end}", data, method="DELETE")
        print_json(ended) if as_json else print_result(f"silence {end} of {loop} is ended")
        return
    if lasts is None:
        found = ask("monitoring", path, data)["silences"]
        print_json(found) if as_json else _print_silences(loop, found)
        return
    body = {"for": lasts, "reason": reason, "kind": kind, "alert": alert}
    content = json.dumps({name: value for name, value in body.items() if value is not None}).encode()
    made = ask("monitoring", path, data, method="POST", content=content)
    if as_json:
        print_json(made)
    else:
        what = made["alert"] or made["kind"] or "all alerts"
        print_result(f"{what} of {loop} silenced until {made['until'][:19]}; end it: --end {made['id']}")


def _print_silences(loop: str, found: Sequence[Mapping[str, Any]]) -> None:
    if not found:
        print_stderr(f"No alert of {loop} is silenced; silence them with --for 2h.")
        return
    table = _table("until", "kind", "alert", "why", "who", "id")
    for one in found:
        about = (one["kind"] or "any", one["alert"] or "any")
        table.add_row(one["until"][:19], *about, one["reason"], one["actor"], one["id"])
    print_result(table)


def _panel(alert: Mapping[str, Any]) -> RenderableType:
    data = alert["data"]
    said = [("since", alert["since"][:19]), ("likely cause", alert["cause"]), ("Everloop", alert["doing"])]
    said += [("evidence", one) for one in alert["evidence"]]
    said += [("you", alert["runbook"])]
    lines = [Text(alert["what"]), *(Text(f"{title}: {text}") for title, text in said if text)]
    state = "silenced" if data.get("silenced") else alert["state"]
    return Panel(Group(*lines), title=f"{alert['alert']} ({data['severity']}, {state})", title_align="left")


def _history(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = _table("time", "alert", "state", "what")
    for one in found:
        table.add_row(one["time"][:19], one["alert"] or one["kind"], one["state"] or "", one["what"])
    return table


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
