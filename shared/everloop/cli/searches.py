"""The command that shows, watches and starts searches for better parameters."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.progress import MofNCompleteColumn, TimeElapsedColumn
from rich.table import Table

from everloop.cli.ask import RETRY_FOR_S
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, progress_bar
from everloop.client import Everloop
from everloop.searches import Search, Trial, read_searches, searches_path

LOOK_EVERY_S = 1.0
TRIALS_SHOWN = 40
Start = Annotated[bool, typer.Option("--start", help="Request a search now, on the outcomes so far.")]
Model = Annotated[int, typer.Option("--model", metavar="N", min=0, max=9, help="The model's number in the loop file.")]
Watch = Annotated[bool, typer.Option("--watch", help="Wait until the newest search of the model has ended.")]
Key = Annotated[str | None, typer.Option("--key", metavar="TEXT", help="The same key is the same search.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why, for those who read the timeline.")]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("search", epilog="Example: everloop search churn --start --watch")(search)


def search(
    loop: Loop,
    start: Start = False,
    model: Model = 0,
    watch: Watch = False,
    key: Key = None,
    reason: Reason = "requested by a person",
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show a loop's searches for better parameters and the trials of the last one; start one, or wait for its end."""
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        wanted = client.search(loop, model=model, reason=reason, key=key).id if start else _newest(client, loop, model)
        if watch and wanted is not None:
            _wait(client, loop, wanted)
        path = searches_path(loop, trials=True, search=wanted if start or watch else None)
        response = client.request("training", "GET", path)
    found = read_searches(response)
    if as_json:
        print_json(response.json()["searches"])
    else:
        print_result(*_describe(loop, found))


def _newest(client: Everloop, loop: str, model: int) -> str | None:
    found = [one.id for one in client.searches(loop) if one.model == model]
    return found[-1] if found else None


def _wait(client: Everloop, loop: str, search: str) -> None:
    with progress_bar(MofNCompleteColumn(), TimeElapsedColumn()) as bar:
        task = bar.add_task("trials", total=None)
        while True:
            found = client.searches(loop, search=search)
            if not found:
                raise CommandFailed(f"search {search} of {loop} is not known any more")
            bar.update(task, completed=found[0].done, total=found[0].wanted)
            if not found[0].is_running:
                return
            time.sleep(LOOK_EVERY_S)


def _describe(loop: str, found: list[Search]) -> list[RenderableType]:
    if not found:
        hint = "one begins after the outcomes that search.every of the loop file names; --start begins one now"
        return [f"{loop} has no search yet: {hint}"]
    last = found[-1]
    shown: list[RenderableType] = [_searches(found)] if len(found) > 1 else []
    shown += [_trials(last)] if last.trials else []
    shown += [_result(last)]
    shown += [f"proposed feature, gain {_number(one['gain'])}: {_flow(one['feature'])}" for one in last.proposed]
    return shown


def _searches(found: list[Search]) -> Table:
    table = _table("search", "model", "requested", "state", "trials", "best", "score", "before", "reason")
    for one in found:
        table.add_row(
            one.id[:8],
            f"models.{one.model}",
            one.requested[:19],
            one.state,
            f"{one.done}/{one.wanted}",
            "" if one.best is None else str(one.best),
            _number(one.score),
            _number(one.base_score),
            one.failure or one.reason,
        )
    return table


def _trials(search: Search) -> Table:
    """The trials; of many the last ones, and the best and the first in any case."""
    table = _table("trial", "state", search.metric, "gap", "folds", "seconds", "parameters")
    shown = {trial.number for trial in search.trials[-TRIALS_SHOWN:]} | {0, search.best}
    for trial in search.trials:
        if trial.number in shown:
            best = " *" if trial.number == search.best else ""
            folds = f"{_number(min(trial.folds))} to {_number(max(trial.folds))}" if trial.folds else ""
            numbers = _number(trial.score), _number(trial.gap), folds, f"{trial.seconds:.1f}"
            table.add_row(f"{trial.number}{best}", trial.state, *numbers, _changes(trial))
    return table


def _changes(trial: Trial) -> str:
    if trial.state == "failed":
        return trial.reason or ""
    if trial.feature:
        return f"with the feature {trial.feature}"
    return ", ".join(f"{name} {_number(value)}" for name, value in trial.parameters.items()) or "as it is"


def _result(search: Search) -> str:
    scores = f"{search.metric} {_number(search.score)}, {_number(search.base_score)} before"
    match search.state:
        case "running":
            return f"search {search.id} of models.{search.model} is running: {search.done} of {search.wanted} trials"
        case "improved":
            return f"trial {search.best} is better: {scores}; its line challenges by run {search.run}"
        case "unchanged":
            return f"nothing is better than models.{search.model} as it is: {search.failure or scores}"
    return f"search {search.id} has failed: {search.failure}"


def _number(value: Any) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def _flow(feature: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{name}: {value}" for name, value in feature.items()) + "}"


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in titles:
        table.add_column(title, no_wrap=title not in ("reason", "parameters"))
    return table
