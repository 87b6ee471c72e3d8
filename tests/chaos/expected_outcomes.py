"""The outcomes that must follow from the labels and feedback on the log alone (decisions 0116, 0118)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime
from typing import Any, NamedTuple

from tests.chaos.topics import Record


class OutcomeSummary(NamedTuple):
    """The fields of an outcome that labels and feedback decide; the label as JSON, so that true is not 1."""

    correction: int
    kind: str
    label: str
    source: str
    disputed: bool


def summarise(outcome: Record) -> OutcomeSummary:
    """The summary of a record of the outcome log."""
    data = outcome.data
    label, disputed = json.dumps(data.get("label")), bool(data.get("disputed"))
    return OutcomeSummary(data["correction"], data["kind"], label, data.get("source") or "", disputed)


def expected_outcomes(prediction: Record, labels: Iterable[Record]) -> list[OutcomeSummary]:
    """The outcomes of these labels and feedback, in the order of the log, each event once.

    Of labels the one with the latest time counts, of equal times the last to arrive. Feedback counts only where no
    label is known; beside one it becomes an outcome once for each source and content, and the label stays.
    """
    truth, as_of, by_label = "", datetime.min, False
    feedback_by_source, found = dict[str, str](), list[OutcomeSummary]()
    for record in labels:
        data, (time, dated) = record.data, _time(record)
        value, source = _value(prediction, data), data.get("source") or ""
        older = dated and bool(truth) and time < as_of
        if data["kind"] == "label":
            if by_label and older:
                continue
            changed = not by_label or value != truth
            truth, as_of, by_label = value, _latest(truth, as_of, time), True
            if changed:
                found.append(OutcomeSummary(len(found), "label", value, source, False))
            continue
        content = json.dumps([data.get("label"), data.get("correct")])
        if feedback_by_source.get(source) == content:
            continue
        feedback_by_source[source] = content
        if not by_label and not older:
            truth, as_of = value, _latest(truth, as_of, time)
        found.append(OutcomeSummary(len(found), "feedback", truth, source, by_label and value != truth))
    return found


def _latest(truth: str, known: datetime, time: datetime) -> datetime:
    return max(known, time) if truth else time


def _time(record: Record) -> tuple[datetime, bool]:
    """The time that counts, never after the arrival; and whether the sender gave one."""
    time = datetime.fromisoformat(record.event["time"])
    arrived = datetime.fromisoformat(record.data.get("received") or record.event["time"])
    return min(time, arrived), time != arrived


def _value(prediction: Record, data: dict[str, Any]) -> str:
    if data.get("label") is not None:
        return json.dumps(data["label"])
    predicted = prediction.data["prediction"]
    return json.dumps(predicted if data["correct"] else not predicted)
