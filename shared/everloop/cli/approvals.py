"""What people say about a candidate: approve, reject, promote."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from everloop.cli.ask import patient
from everloop.cli.output import Data, Json, Loop, print_json, print_result
from everloop.cli.views import awaited

Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
Version = Annotated[
    str | None, typer.Argument(metavar="[VERSION]", help="The version that is meant; the candidate without one.")
]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("approve", epilog="Example: everloop approve churn --reason 'its errors are within the limits'")(
        approve
    )
    app.command("reject", epilog="Example: everloop reject churn --reason 'worse for new customers'")(reject)
    app.command("promote", epilog="Example: everloop promote churn --reason 'the old one is wrong'")(promote)


def approve(loop: Loop, reason: Why, version: Version = None, data: Data = None, as_json: Json = False) -> None:
    """Approve of the candidate that waits for approvals."""
    _say("approve", loop, reason, version, data, as_json)


def reject(loop: Loop, reason: Why, version: Version = None, data: Data = None, as_json: Json = False) -> None:
    """Roll the candidate back; the champion stays."""
    _say("reject", loop, reason, version, data, as_json)


def promote(loop: Loop, reason: Why, version: Version = None, data: Data = None, as_json: Json = False) -> None:
    """Make the candidate champion now, or a registered version where no candidate is in rollout."""
    _say("promote", loop, reason, version, data, as_json)


def _say(verb: str, loop: str, reason: str, version: str | None, data: str | None, as_json: bool) -> None:
    with patient(data) as client:
        say = {"approve": client.approve, "reject": client.reject, "promote": client.promote}[verb]
        state = say(loop, reason=reason, version=version or None)
    print_json(state) if as_json else print_result(_told(state))


def _told(state: dict[str, Any]) -> str:
    champion, candidate = state["champion"]["version"], state["candidate"]
    if candidate is None:
        return f"{champion} is champion, and no candidate is in rollout"
    return f"{champion} is champion, {candidate['version']} has {state['share']:.0%} of the traffic{awaited(state)}"
