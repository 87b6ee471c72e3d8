"""The commands that carry data: publish, predict, label, feedback."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from everloop.cli.output import Data, Failed, Json, Loop, rejected, result, show
from everloop.client import Everloop
from everloop.results import Accepted

Body = Annotated[
    str,
    typer.Argument(metavar="[JSON|@FILE|-]", help="Fields, an event, a list, or JSON lines; - is standard input."),
]
Named = Annotated[
    str,
    typer.Argument(metavar="ID|@FILE|-", help="The event's id; or a file of many, a list or JSON lines."),
]
Id = Annotated[str | None, typer.Option("--id", help="The event's own id, by which a label names it later.")]
Entity = Annotated[str | None, typer.Option("--entity", help="Whom or what it is about.")]
Time = Annotated[str | None, typer.Option("--time", help="When it happened, RFC 3339.")]
Truth = Annotated[str | None, typer.Argument(metavar="[LABEL]", help="The truth, in JSON: true, 3.5, '\"a class\"'.")]
Right = Annotated[bool | None, typer.Option("--correct/--wrong", help="Whether the prediction was right.")]
Label = Annotated[str | None, typer.Option("--label", metavar="LABEL", help="What would have been right, in JSON.")]
Comment = Annotated[str | None, typer.Option("--comment", help="What the user said.")]
Source = Annotated[str | None, typer.Option("--source", help="Who said it.")]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("publish", epilog="""Example: everloop publish churn '{"visits": 3}' --entity customer-17""")(publish)
    app.command("predict", epilog="""Example: everloop predict churn '{"visits": 3}' --id order-17""")(predict)
    app.command("label", epilog="Example: everloop label churn order-17 true")(label)
    app.command("feedback", epilog="Example: everloop feedback churn order-17 --wrong --source desk")(feedback)


def publish(
    loop: Loop,
    body: Body = "-",
    id: Id = None,
    entity: Entity = None,
    time: Time = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send one observation, or many."""
    given = _read(body)
    events = given if isinstance(given, list) else [_event(given, id, entity, time)]
    with Everloop(data) as house:
        _told(house.publish(loop, events), "event", as_json)


def predict(
    loop: Loop,
    body: Body = "-",
    id: Id = None,
    entity: Entity = None,
    time: Time = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask for a prediction."""
    event = _event(_read(body), id, entity, time)
    with Everloop(data) as house:
        answer = house.predict(
            loop, event["data"], id=event.get("id"), entity=event.get("entity"), time=event.get("time")
        )
    if as_json:
        result({k: v for k, v in asdict(answer).items() if v is not None})
    else:
        show(f"{json.dumps(answer.prediction)} by {answer.version} ({answer.role}), id {answer.id}")


def label(
    loop: Loop, id: Named, truth: Truth = None, time: Time = None, data: Data = None, as_json: Json = False
) -> None:
    """Tell the truth about a prediction, or about many."""
    many = _many(id)
    if many is None and truth is None:
        raise typer.BadParameter("is missing; give the truth after the id, such as true", param_hint="LABEL")
    with Everloop(data) as house:
        answer = house.label(loop, id, _value(truth), time=time) if many is None else house.label(loop, many, time=time)
    _told(answer, "label", as_json)


def feedback(
    loop: Loop,
    id: Named,
    correct: Right = None,
    label: Label = None,
    comment: Comment = None,
    source: Source = None,
    time: Time = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tell what a user said of a prediction, or of many."""
    many = _many(id)
    if many is None and (correct is None) == (label is None):
        raise typer.BadParameter("say one of --correct, --wrong and --label", param_hint="--correct")
    with Everloop(data) as house:
        said = {"correct": correct, "comment": comment, "source": source, "time": time}
        named = id if many is None else many
        answer = house.feedback(loop, named, label=_value(label), **said)  # type: ignore[arg-type]
    _told(answer, "feedback", as_json)


def _told(answer: Accepted, what: str, as_json: bool) -> None:
    if as_json:
        result({"accepted": answer.accepted, "ids": answer.ids, "rejected": [asdict(r) for r in answer.rejected]})
    elif answer.accepted == 1:
        show(f"1 {what} accepted, id {answer.ids[0]}")
    else:
        show(f"{answer.accepted:,} {what if what == 'feedback' else what + 's'} accepted")
    if answer.rejected:
        rejected((f"number {r.index + 1}", r.errors) for r in answer.rejected)
        raise typer.Exit(1)


def _event(given: Any, id: str | None, entity: str | None, time: str | None) -> dict[str, Any]:
    """An event from itself, or from bare fields."""
    if not isinstance(given, dict):
        raise Failed('it must be an object: fields such as {"visits": 3}, or an event with data')
    event = given if isinstance(given.get("data"), dict) else {"data": given}
    return event | {k: v for k, v in (("id", id), ("entity", entity), ("time", time)) if v is not None}


def _many(named: str) -> list[Any] | None:
    """The entries of a file, of standard input, or of JSON in place of an id; None for an id."""
    if named != "-" and not named.startswith(("@", "{", "[")):
        return None
    given = _read(named)
    return given if isinstance(given, list) else [given]


def _read(body: str) -> Any:
    """JSON as it is, from a file, or from standard input; more than one line of it is a list."""
    try:
        text = sys.stdin.read() if body == "-" else Path(body[1:]).read_text() if body.startswith("@") else body
    except OSError as e:
        raise Failed(f"{body[1:]} cannot be read: {e.strerror}") from e
    try:
        return json.loads(text)
    except ValueError as whole:
        lines = [line for line in text.splitlines() if line.strip()]
        try:
            return [json.loads(line) for line in lines] if len(lines) > 1 else json.loads(text)
        except ValueError:
            raise Failed(f"it is not JSON: {whole}") from whole


def _value(text: str | None) -> Any:
    """A label in JSON; what is no JSON is text."""
    try:
        return None if text is None else json.loads(text)
    except ValueError:
        return text
