"""The commands that send data: publish, predict, label, feedback."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from everloop.cli.ask import ask
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_rejected, print_result
from everloop.client import Everloop
from everloop.errors import EverloopError
from everloop.results import Accepted, Explanation
from everloop.wire import loop_path
from everloop_shared import strict_json

Body = Annotated[
    str,
    typer.Argument(metavar="[JSON|@FILE|-]", help="Fields, an event, a list, or JSON lines; - is standard input."),
]
Named = Annotated[
    str,
    typer.Argument(metavar="ID|@FILE|-", help="A prediction id; or a file of many entries, a list or JSON lines."),
]
Id = Annotated[str | None, typer.Option("--id", help="The observation's id, which its label names later.")]
Explained = Annotated[bool, typer.Option("--explain", help="Show what each feature contributed.")]
Entity = Annotated[str | None, typer.Option("--entity", help="Whom or what the observation is about.")]
Time = Annotated[str | None, typer.Option("--time", help="When it happened, RFC 3339.")]
LabelValue = Annotated[
    str | None, typer.Argument(metavar="[LABEL]", help="The label, in JSON: true, 3.5, '\"a class\"'.")
]
Correct = Annotated[bool | None, typer.Option("--correct/--wrong", help="Whether the prediction was right.")]
Label = Annotated[str | None, typer.Option("--label", metavar="LABEL", help="The correct label, in JSON.")]
Comment = Annotated[str | None, typer.Option("--comment", help="The user's comment.")]
Source = Annotated[str | None, typer.Option("--source", help="Who gave the feedback.")]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("publish", epilog="""Example: everloop publish churn '{"visits": 3}' --entity customer-17""")(publish)
    app.command("predict", epilog="""Example: everloop predict churn '{"visits": 3}' --id order-17""")(predict)
    app.command("label", epilog="Example: everloop label churn order-17 true")(label)
    app.command("feedback", epilog="Example: everloop feedback churn order-17 --wrong --source reviewer-4")(feedback)


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
    with Everloop(data) as client:
        _report(client.publish(loop, events), "event", as_json)


def predict(
    loop: Loop,
    body: Body = "-",
    id: Id = None,
    entity: Entity = None,
    time: Time = None,
    explain: Explained = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Ask for a prediction."""
    event = _event(_read(body), id, entity, time)
    with Everloop(data) as client:
        answer = client.predict(
            loop,
            event["data"],
            id=event.get("id"),
            entity=event.get("entity"),
            time=event.get("time"),
            explain=explain,
        )
    if as_json:
        print_json({k: v for k, v in asdict(answer).items() if v is not None})
    else:
        print_result(f"{json.dumps(answer.prediction)} by {answer.version} ({answer.role}), id {answer.id}")
        if answer.explanation:
            print_result(*_explained(answer.explanation))
        elif explain:
            print_result("The explanation would take too long.")


def _explained(explanation: Explanation) -> Iterator[str]:
    """The contributions, the largest first, between the base and the score."""
    what = "the value" if explanation.of is None else f"{explanation.of}"
    scale = {"log_odds": "log odds of ", "margin": "margin of "}.get(explanation.scale or "", "")
    yield f"Explained by {explanation.method}: {scale}{what}"
    yield f"{explanation.base:+12.4g}  base"
    for name, share in sorted(explanation.contributions.items(), key=lambda item: -abs(item[1])):
        yield f"{share:+12.4g}  {name}"
    yield f"{explanation.score:+12.4g}  score"


def label(
    loop: Loop, id: Named, label: LabelValue = None, time: Time = None, data: Data = None, as_json: Json = False
) -> None:
    """Send the label of a prediction, or of many."""
    many = _many(id) if label is None else None
    if many is None and label is None:
        raise typer.BadParameter("is missing; give the label after the id, such as true", param_hint="LABEL")
    with Everloop(data) as client:
        answer = (
            client.label(loop, id, _typed_label(loop, label, data), time=time)
            if many is None
            else client.label(loop, many, time=time)
        )
    _report(answer, "label", as_json)


def feedback(
    loop: Loop,
    id: Named,
    correct: Correct = None,
    label: Label = None,
    comment: Comment = None,
    source: Source = None,
    time: Time = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send a user's feedback about a prediction, or about many."""
    many = _many(id) if correct is None and label is None else None
    if many is None and (correct is None) == (label is None):
        raise typer.BadParameter("pass one of --correct, --wrong and --label", param_hint="--correct")
    with Everloop(data) as client:
        values = {"correct": correct, "comment": comment, "source": source, "time": time}
        named = id if many is None else many
        answer = client.feedback(loop, named, label=_typed_label(loop, label, data), **values)  # type: ignore[arg-type]
    _report(answer, "feedback", as_json)


def _report(answer: Accepted, what: str, as_json: bool) -> None:
    if as_json:
        print_json({"accepted": answer.accepted, "ids": answer.ids, "rejected": [asdict(r) for r in answer.rejected]})
    elif answer.accepted == 1:
        print_result(f"1 {what} accepted, id {answer.ids[0]}")
    else:
        print_result(f"{answer.accepted:,} {what if what == 'feedback' else what + 's'} accepted")
    if answer.rejected:
        print_rejected((f"number {r.index + 1}", r.errors) for r in answer.rejected)
        raise typer.Exit(1)


def _event(given: Any, id: str | None, entity: str | None, time: str | None) -> dict[str, Any]:
    """An event, given whole or as its fields alone."""
    if not isinstance(given, dict):
        raise CommandFailed('it must be an object: fields such as {"visits": 3}, or an event with data')
    event = given if isinstance(given.get("data"), dict) else {"data": given}
    return event | {k: v for k, v in (("id", id), ("entity", entity), ("time", time)) if v is not None}


def _many(named: str) -> list[Any] | None:
    """The entries of a file, of standard input, or of JSON; None where a single id is named."""
    if named != "-" and not named.startswith(("@", "{", "[")):
        return None
    given = _read(named)
    return given if isinstance(given, list) else [given]


def _read(body: str) -> Any:
    """JSON from the argument, a file or standard input; several lines of JSON are a list."""
    text = _bytes(body)
    try:
        return strict_json.read(text)
    except strict_json.NotJson as whole:
        lines = [line for line in text.split(b"\n") if line.strip()]
        if len(lines) < 2:
            raise CommandFailed(f"it is {whole}") from whole
    return [_line(number, line) for number, line in enumerate(lines, 1)]


def _line(number: int, line: bytes) -> Any:
    try:
        return strict_json.read(line)
    except strict_json.NotJson as e:
        raise CommandFailed(f"it is neither one JSON text nor a line of JSON each; line {number} is {e}") from e


def _bytes(body: str) -> bytes:
    try:
        if body == "-":
            return sys.stdin.buffer.read()
        return Path(body[1:]).read_bytes() if body.startswith("@") else body.encode()
    except OSError as e:
        raise CommandFailed(f"{body[1:]} cannot be read: {e.strerror}") from e
    except ValueError as e:  # half a character in an argument, or in the name of a file
        raise CommandFailed(f"{body[:80]!r} is no text in UTF-8: {e}") from e


def _typed_label(loop: str, text: str | None, data: str | None) -> Any:
    """A label, in JSON or as plain text, in the type of the loop's labels; as JSON where the registry is away."""
    if text is None:
        return None
    try:
        value = strict_json.read(text.encode(errors="replace"))
    except strict_json.NotJson:
        value = text
    try:
        spec = ask("registry", loop_path(loop), data)["spec"]
    except EverloopError:
        return value
    return _coerce(spec, value if isinstance(value, str) else text)


def _coerce(spec: Any, text: str) -> Any:
    from everloop.replay.coerce import label  # imports the spec's classes, which the other commands do without
    from everloop_schemas.loop import LoopSpec

    try:
        return label(LoopSpec.model_validate(spec), text)
    except ValueError as e:
        raise CommandFailed(f"label: {e}") from e
