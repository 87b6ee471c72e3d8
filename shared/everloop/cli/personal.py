"""The commands about one person: export what is known, and have it erased."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from everloop.cli.ask import ask
from everloop.cli.output import (
    CommandFailed,
    Data,
    Json,
    Loop,
    print_json,
    print_result,
    print_stderr,
    progress_bar,
    read_answer,
)
from everloop.personal import erasing
from everloop.personal.export import Line, OnProgress, SubjectClient
from everloop.personal.learned import LearnedOutcomes, versions_with
from everloop.wire import loop_path
from everloop_shared.files import replace_file

Entity = Annotated[str, typer.Argument(metavar="ENTITY", help="The entity, as observations name it.")]
Why = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the history.")]
Models = Annotated[
    str | None,
    typer.Option("--models", metavar="keep|retrain", help="What becomes of versions that learned from the person."),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Out = Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write it there, for you alone to read.")]
CHOICES = ("keep", "retrain")
RETRY_FOR_S = 30.0


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("subject", epilog="Example: everloop subject churn customer-7 --out customer-7.json")(subject)
    app.command("erase", epilog="Example: everloop erase churn customer-7 --reason 'letter of 3 May' --models keep")(
        erase
    )


def subject(loop: Loop, entity: Entity, out: Out = None, data: Data = None) -> None:
    """Export what is known about one person as JSON (GDPR, article 15), sealed values opened.

    Observations, features, predictions with their versions and explanations, labels and feedback, outcomes, the
    windows as they are now, dead letters, erasures, and the versions that learned from the person.
    """
    asks = _asks(data)
    lines = list(_read(data, loop, entity))
    erasures = erasing.erasures_of(asks, loop, entity)
    whole = {
        "loop": loop,
        "entity": entity,
        **_by_kind(lines),
        "erasures": erasures,
        "versions": _versions(asks, loop, lines, erasures),
    }
    text = json.dumps(whole, ensure_ascii=False, indent=1) + "\n"
    if out is None:
        sys.stdout.write(text)
        return
    try:
        replace_file(out, text.encode())
    except OSError as e:
        raise CommandFailed(f"{out} cannot be written: {e.strerror or e}") from e
    print_stderr(f"{len(lines):,} records about {entity} are in {out}")


def erase(
    loop: Loop,
    entity: Entity,
    reason: Why,
    models: Models = None,
    yes: Yes = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Erase a person: the key is destroyed, so that no copy can be read; windows and cached features go.

    It lists the versions that learned from the person first. `keep` leaves them; `retrain` requests a run that learns
    again without the person, whose models the gate and the rollout treat as any others.
    """
    if models is not None and models not in CHOICES:
        raise typer.BadParameter("write keep or retrain", param_hint="--models")
    asks = _asks(data)
    erasures = erasing.erasures_of(asks, loop, entity)
    learned = _versions(asks, loop, list(_read(data, loop, entity, only_outcomes=True)), erasures)
    chosen = _choose(entity, models, yes, learned)
    names = [one["version"] for one in learned]
    asked = erasing.request(asks, loop, entity, reason, chosen, names)
    with _waiting("waiting for the receipt"):
        done = erasing.wait_for_receipt(asks, loop, entity, asked["decision"])
    run = _retrain(asks, loop, asked["decision"]) if chosen == "retrain" else None
    if as_json:
        print_json({"loop": loop, "entity": entity, **done, "learned": learned, "run": run})
        return
    print_result(*_told(loop, entity, done, learned, run))


def _asks(data: str | None) -> erasing.Ask:
    def asks(service: str, path: str, method: str, body: bytes | None) -> Any:
        return ask(service, path, data, method=method, content=body, retry_for=RETRY_FOR_S)

    return asks


def _read(data: str | None, loop: str, entity: str, *, only_outcomes: bool = False) -> Iterator[Line]:
    client = SubjectClient(data)
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("reading the log", total=None)
        show: OnProgress = lambda read, of: bar.update(task, completed=read, total=of)  # noqa: E731
        yield from client.lines(loop, entity, show, only_outcomes=only_outcomes)


@contextmanager
def _waiting(what: str) -> Iterator[None]:
    with progress_bar() as bar:
        bar.add_task(what, total=None)
        yield


def _by_kind(lines: Sequence[Line]) -> dict[str, Any]:
    kinds = {
        "observations": "observation",
        "features": "features",
        "predictions": "prediction",
        "labels": "label",
        "joined_labels": "joined_label",
        "outcomes": "outcome",
        "dead_letters": "dead_letter",
    }
    found: dict[str, Any] = {
        name: [_record(line) for line in lines if line["kind"] == kind] for name, kind in kinds.items()
    }
    windows = [_record(line) for line in lines if line["kind"] == "windows"]
    return found | {"windows": windows[-1] if windows else None}


def _record(line: Line) -> dict[str, Any]:
    about = {key: line[key] for key in ("recorded", "topic", "partition", "offset")}
    return {**about, "personal_values": line["personal"], "record": line["record"]}


def _versions(
    asks: erasing.Ask, loop: str, lines: Sequence[Line], erasures: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    erased = [e["erased"] for e in erasures if e["erased"]]
    outcomes = LearnedOutcomes.of(lines, max(erased, default=None))
    versions = asks("registry", loop_path(loop, "versions"), "GET", None)["versions"]
    runs = asks("training", loop_path(loop, "runs"), "GET", None)["runs"]
    return versions_with(outcomes, versions, runs)


def _choose(entity: str, models: str | None, yes: bool, learned: Sequence[Mapping[str, Any]]) -> str:
    """What becomes of models; asks on a terminal. Raises CommandFailed where it is not said, or not confirmed."""
    interactive = sys.stdin.isatty()
    if not yes or models is None:
        print_stderr(*_listed(entity, learned))
    if models is None:
        if not interactive:
            raise CommandFailed("say what becomes of these versions: --models keep, or --models retrain")
        models = read_answer("keep them, or retrain without the person? ")
        if models not in CHOICES:
            raise CommandFailed("neither keep nor retrain: nothing was erased")
    if not yes and read_answer(f"This cannot be undone. Type {entity} to erase it: ") != entity:
        raise CommandFailed("nothing was erased; type the entity, or pass --yes")
    return models


def _listed(entity: str, learned: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if not learned:
        yield f"no registered version has learned from {entity}"
        return
    yield f"{len(learned)} versions have learned from {entity}:"
    yield from (f"  {_version(one)}" for one in learned)


def _version(one: Mapping[str, Any]) -> str:
    count = (
        "it was trained elsewhere, on what is not known" if one["outcomes"] is None else f"{one['outcomes']:,} outcomes"
    )
    place = one["serves"] or ("its artifact is kept" if one["kept"] else "its artifact was collected")
    return f"{one['version']}: {count}, {place}"


def _retrain(asks: erasing.Ask, loop: str, decision: int) -> Mapping[str, Any]:
    with _waiting("waiting until no process remembers the key"):
        time.sleep(erasing.KEYS_REMEMBERED_S)
    return erasing.request_run(asks, loop, decision)


def _told(
    loop: str, entity: str, done: Mapping[str, Any], learned: Sequence[Mapping[str, Any]], run: Mapping[str, Any] | None
) -> Iterator[str]:
    gone = done["removed"]
    windows = f"{gone['windows']} windows over {gone['observations']:,} observations, {gone['features']} features"
    if gone["sealed"]:
        yield f"{entity} of {loop} is erased: its key is destroyed, and {windows} are removed"
        yield "stays: the entity's id, labels, predictions and times; what is not marked personal in the loop's file"
    else:
        yield f"{entity} of {loop} is erased: {windows} are removed"
        yield (
            f"stays: everything else. {loop} has no personal fields, so its values are not sealed: they stay on the "
            "topics until their retention ends, and in archives and backups"
        )
    if learned:
        yield f"stays: what {', '.join(one['version'] for one in learned)} learned"
    if run is not None:
        told = run.get("detail") or f"run {run['run']} starts line {run['line']}; see it with: everloop history {loop}"
        yield told
