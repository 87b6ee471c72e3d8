"""The command that says which version made a prediction and why, and proves that it predicts the same again."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import TextColumn, TimeElapsedColumn
from rich.table import Table

from everloop.cli import views
from everloop.cli.ask import RETRY_FOR_S, ask_by
from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, printable, progress_bar
from everloop.client import Everloop
from everloop.extras import require_local
from everloop.local.discovery import Installation, find_installation

if TYPE_CHECKING:
    from everloop.explaining.explain import Explained
    from everloop.explaining.record import Recorded

PredictionId = Annotated[str, typer.Argument(metavar="PREDICTION_ID", help="The id of the observation.")]
OfLoop = Annotated[
    str | None, typer.Option("--loop", metavar="LOOP", help="The loop's name, where several have a prediction of it.")
]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("explain-decision", epilog="Example: everloop explain-decision order-17 --loop shop")(explain_decision)


def explain_decision(
    prediction_id: PredictionId, loop: OfLoop = None, data: Data = None, as_json: Json = False
) -> None:
    """Say which version made a prediction, why, and from what; then let it predict again, and compare.

    The record is read from the topic of predictions, the loop's state of that moment from the registry. The version's
    artifact is verified, with EVERLOOP_TRUSTED_KEYS its seal too, and loaded in a process with limits. The status is 1
    where it predicts otherwise, or no state of the loop explains the prediction. Where the artifact cannot be read on
    this machine, that is said, and the rest is shown.
    """
    require_local("everloop explain-decision")
    from everloop.explaining.explain import explain

    installation = find_installation(data)
    found = asyncio.run(_find(installation, prediction_id, loop))
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        explained = asyncio.run(explain(installation, found, partial(ask_by, client)))
    print_json(_described(explained)) if as_json else print_result(_facts(explained), *_decisions(explained))
    if explained.contradictions:
        raise CommandFailed("\n".join(explained.contradictions))


async def _find(installation: Installation, prediction_id: str, loop: str | None) -> Recorded:
    from everloop.explaining.record import find_record

    columns = (TextColumn("{task.completed:,} records"), TimeElapsedColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("reading the log", total=None)
        return await find_record(installation, prediction_id, loop, lambda: bar.advance(task))


def _described(explained: Explained) -> dict[str, Any]:
    answer, origin, replay = explained.answer, explained.origin, explained.replay
    state = answer and {key: value for key, value in answer.state.items() if key != "spec"}
    return {
        "record": json.loads(explained.event.encode()),
        "records": explained.found.records,
        "answer": answer and {"why": answer.why, "certain": answer.certain, "hash": answer.hash, "state": state},
        "origin": origin
        and {
            "version": origin.registered,
            "run": origin.run,
            "data_set": origin.data_set,
            "decisions": origin.decisions,
        },
        "replay": {
            "identical": replay.identical,
            "detail": replay.detail,
            "prediction": replay.prediction,
            "probabilities": replay.probabilities,
            "trusted": replay.trusted,
        },
    }


def _facts(explained: Explained) -> Table:
    event, answer, origin, replay = explained.event, explained.answer, explained.origin, explained.replay
    made = event.data
    rows = [
        ("prediction", f"{event.subject} of {event.loop}, for {made.entity}, at {event.time.isoformat()}"),
        ("answer", f"{json.dumps(made.prediction)} {json.dumps(made.probabilities) if made.probabilities else ''}"),
        ("version", f"{made.version}, {made.role}, revision {event.revision}"),
    ]
    if explained.found.records > 1:
        rows.append(("records", f"{explained.found.records} different ones of this id; this is the last"))
    if answer is not None:
        state = answer.state
        candidate = f", candidate {state['candidate']['version']}" if state["candidate"] else ""
        told = f"champion {state['champion']['version']}{candidate}, {state['stage']}, share {state['share']:.0%}"
        rows.append(("why", answer.why))
        rows.append(("state", f"after decision {state['sequence']} of {state['decided']}: {told}"))
    if origin is not None:
        rows.append(("learned", f"{origin.data_set}, {origin.registered['manifest']['outcomes']:,} outcomes"))
        if run := origin.run:
            rows.append(("run", f"{run['run']}, {run['trigger']}: {run['reason']} ({run['requested']})"))
    proven = {True: "identical: ", False: "", None: "not replayed: "}[replay.identical]
    trusted = "; by EVERLOOP_TRUSTED_KEYS the artifact is trusted" if replay.trusted else ""
    rows.append(("replay", f"{proven}{replay.detail}{trusted}"))
    table = Table(box=None, show_header=False, pad_edge=False)
    for name, value in rows:
        table.add_row(name, printable(value))
    return table


def _decisions(explained: Explained) -> list[Table]:
    """What was decided about the version and its line until then, as `history` shows it, with who did it."""
    if explained.origin is None or not explained.origin.decisions:
        return []
    table = Table("no", "time", "decision", "about", "by", "why", box=None, pad_edge=False, header_style="bold")
    for one in explained.origin.decisions:
        kind, by = one["decision"].replace("_", " "), one["actor"] or "anonymous"
        row = (one["sequence"], one["time"][:19], kind, one["subject"], by, views.why(one["data"]))
        table.add_row(*map(printable, row))
    return [table]
