"""A process that answers like that of a search, without searching: `search_child.py MODE FOLDER PARENT`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from everloop_models.search.protocol import ROWS, TASK, Answer, SearchTask
from everloop_schemas.search import SearchFinishedData, TrialFinishedData

TRIALS = 3


def main(mode: str, folder: Path) -> None:
    """Answer as the mode says."""
    task = SearchTask.decode((folder / TASK).read_bytes())
    rows = [json.loads(line) for line in (folder / ROWS).read_bytes().splitlines()]
    assert all(row["entity"] for row in rows), "rows have their entity"
    if mode == "away" and not (tried := folder / "tried").exists():
        tried.touch()
        say(Answer(unavailable="the cluster is away"))
        return
    for number in range(10_000 if mode == "many" else TRIALS):
        if mode == "slow" and number == 2:
            time.sleep(600)
        score = 0.5 + number / 10
        parameters = {"l2": number / 100 + 0.01} if number else {}
        data = {"search": "-", "trial": number, "state": "complete", "parameters": parameters, "seconds": 0.1}
        say(Answer(trial=TrialFinishedData.model_validate({**data, "score": score, "folds": (score, score)})))
    if mode == "garbage":
        sys.stdout.write("warning: this is no answer\n")
        sys.stdout.flush()
    if mode == "long":
        sys.stdout.write("x" * 2_000_000)
        sys.stdout.flush()
    if mode == "exit":
        raise SystemExit(3)
    model = task.request.model.model_copy(update={"l2": 0.03})
    data = {"search": "-", "metric": "accuracy", "trials": TRIALS, "base_score": 0.5, "seconds": 0.3}
    if mode == "unchanged":
        say(Answer(finished=SearchFinishedData.model_validate({**data, "state": "unchanged", "best": 0, "score": 0.5})))
        return
    found = {"state": "improved", "best": 2, "score": 0.7, "model": model.model_dump(mode="json", exclude_unset=True)}
    say(Answer(finished=SearchFinishedData.model_validate({**data, **found})))


def say(answer: Answer) -> None:
    """Write an answer."""
    sys.stdout.buffer.write(answer.encode())
    sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
