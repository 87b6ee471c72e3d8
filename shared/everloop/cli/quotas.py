"""What teams have, and may have: `quotas`."""

from __future__ import annotations

from typing import Any

import typer
from rich.table import Table

from everloop.cli.ask import ask
from everloop.cli.output import Data, Json, print_json, print_result, print_stderr

COUNTED_BY = ("registry", "training")


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("quotas", epilog="Example: everloop quotas --json")(quotas)


def quotas(data: Data = None, as_json: Json = False) -> None:
    """Show what your team has of its quotas; with a role for all loops, what every team has."""
    teams = dict[str, dict[str, Any]]()
    for service in COUNTED_BY:
        for found in ask(service, "/v1/quotas", data)["teams"]:
            teams.setdefault(found["team"], {}).update(found["quotas"])
    if as_json:
        print_json(teams)
    elif not teams:
        print_stderr("There is no team: everloop keys create NAME --team TEAM makes a key that counts for one.")
    else:
        print_result(_table(teams))


def _table(teams: dict[str, dict[str, Any]]) -> Table:
    table = Table("team", "quota", "used", "allowed")
    for team, found in sorted(teams.items()):
        for name, quota in found.items():
            allowed = "any" if quota["allowed"] is None else f"{quota['allowed']:,.0f}"
            table.add_row(team, name.replace("_", " "), f"{quota['used']:,.0f}", allowed)
    return table
