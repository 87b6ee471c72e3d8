"""What must be told of a prediction's truth, counted from the words on the log alone (decisions 0116, 0118)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from tests.chaos.topics import Record


class Told(NamedTuple):
    """What an outcome says, as far as words decide it; the label as JSON, so that true is not 1."""

    correction: int
    kind: str
    label: str
    source: str
    disputed: bool


def told(outcome: Record) -> Told:
    """What a record of the outcome log says."""
    data = outcome.data
    label, disputed = json.dumps(data.get("label")), bool(data.get("disputed"))
    return Told(data["correction"], data["kind"], label, data.get("source") or "", disputed)


def expected(prediction: Record, words: Iterable[Record]) -> list[Told]:
    """The outcomes that these words make, in the order of the log, each event once.

    Of labels the latest time stands, of equal ones the last to arrive. Feedback is the truth only where no label is
    known; beside one it is told, once for each source and what it says, and the label stays.
    """
    truth, as_of, by_label = "", datetime.min, False
    voices, found = dict[str, str](), list[Told]()
    for word in words:
        data, (time, dated) = word.data, _time(word)
        says, source = _says(prediction, data), data.get("source") or ""
        older = dated and bool(truth) and time < as_of
        if data["kind"] == "label":
            if by_label and older:
                continue
            news = not by_label or says != truth
            truth, as_of, by_label = says, _latest(truth, as_of, time), True
            if news:
                found.append(Told(len(found), "label", says, source, False))
            continue
        opinion = json.dumps([data.get("label"), data.get("correct")])
        if voices.get(source) == opinion:
            continue
        voices[source] = opinion
        if not by_label and not older:
            truth, as_of = says, _latest(truth, as_of, time)
        found.append(Told(len(found), "feedback", truth, source, by_label and says != truth))
    return found


def _latest(truth: str, known: datetime, time: datetime) -> datetime:
    return max(known, time) if truth else time


def _time(word: Record) -> tuple[datetime, bool]:
    """When it counts as said, never after it arrived; and whether its sender said when."""
    said = datetime.fromisoformat(word.event["time"])
    arrived = datetime.fromisoformat(word.data.get("received") or word.event["time"])
    return min(said, arrived), said != arrived


def _says(prediction: Record, data: dict[str, Any]) -> str:
    if data.get("label") is not None:
        return json.dumps(data["label"])
    said = prediction.data["prediction"]
    return json.dumps(said if data["correct"] else not said)
