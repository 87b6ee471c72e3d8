"""Which column of a source is what, and a row of a source as an event of the loop; pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from everloop.replay import coerce
from everloop.replay.rows import Errors, to_rfc3339
from everloop_features.labels import check_label
from everloop_features.observation import DEFAULT_ENTITY, check_observation
from everloop_features.times import DEFAULT_TIME_LIMITS, to_micros
from everloop_schemas.envelope import Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.clock import read_time


@dataclass(frozen=True)
class HistoryColumns:
    """The names of the columns with time, label, entity and id; None where a source has no such column."""

    time: str
    label: str | None = None
    entity: str | None = None
    id: str | None = None

    def missing(self, spec: LoopSpec, there: Sequence[str]) -> list[str]:
        """The columns that a source needs and has not."""
        needed = [c for c in (self.time, self.label, self.entity, self.id) if c is not None]
        needed += [name for name, field in spec.fields.items() if field.missing == "refuse"]
        return [column for column in dict.fromkeys(needed) if column not in there]


@dataclass(frozen=True)
class HistoryRow:
    """A row that fits the loop: its time in µs since the epoch, its event without an id, and its label, if any.

    `digest` is that of its content, by which a row without an id of its own is known again.
    """

    time_us: int
    event: dict[str, Any]
    label: Scalar | None
    digest: bytes


def read_row(
    values: Mapping[str, Any], columns: HistoryColumns, spec: LoopSpec, now: datetime
) -> tuple[HistoryRow | None, Errors]:
    """The row, None where it is refused, and every error in it. A row whose label alone is wrong goes without it."""
    time = _time(values.get(columns.time))
    event: dict[str, Any] = {"data": {name: _value(field, values.get(name)) for name, field in spec.fields.items()}}
    event["entity"] = DEFAULT_ENTITY if columns.entity is None else _text(values.get(columns.entity))
    if columns.id is not None:
        event["id"] = _text(values.get(columns.id))
    moment = read_time(time) if isinstance(time, str) else None
    wrong: Errors = []
    if moment is None:
        wrong.append((columns.time, "is missing" if time is None else "is no time; write 2024-05-01T12:00:00Z"))
    elif violation := DEFAULT_TIME_LIMITS.find_violation(moment, now):
        wrong.append((columns.time, violation.partition(";")[0]))
    checked = check_observation(spec, {**event, "entity": event["entity"] or None})
    if isinstance(checked, list):
        wrong += [(e.field, e.error) for e in checked]
    for part in ("entity", "id"):
        if part in event and not event[part]:
            wrong.append((part, "is missing"))
    if wrong or moment is None:
        return None, wrong
    label, wrong_label = _label(values, columns, spec)
    event["time"] = moment.isoformat()
    content = json.dumps([event, label], sort_keys=True, ensure_ascii=False)
    digest = hashlib.sha256(content.encode()).digest()[:16]
    return HistoryRow(to_micros(moment), event, label, digest), wrong_label


def _label(values: Mapping[str, Any], columns: HistoryColumns, spec: LoopSpec) -> tuple[Scalar | None, Errors]:
    if columns.label is None:
        return None, []
    given = _plain(values.get(columns.label))
    try:
        label = coerce.label(spec, given) if isinstance(given, str) else given
    except ValueError as e:
        return None, [(columns.label, str(e))]
    if label is None:
        return None, []
    if isinstance(label, float) and spec.label_type in ("integer", "boolean") and label.is_integer():
        label = int(label)  # frames with missing values have no whole numbers
    checked = check_label(spec, "label", {"id": "x", "label": label})
    if isinstance(checked, list):
        return None, [(columns.label, checked[0].error)]
    return checked.label, []


def _value(field: Any, given: Any) -> Any:
    """A value as the loop's field takes it; what does not fit stays as it is, for the loop's own check to refuse."""
    value = _plain(given)
    if isinstance(value, str):
        try:
            return coerce.value(field, value)
        except ValueError:
            return value
    if field.type == "string" and value is not None:
        return str(value) if not isinstance(value, bool) else str(value).lower()
    if isinstance(value, float) and value != value:
        return None
    if field.type in ("integer", "boolean") and isinstance(value, float) and value.is_integer():
        value = int(value)
    return bool(value) if field.type == "boolean" and value in (0, 1) else value


def _plain(value: Any) -> Any:
    """A value of a typed source as JSON has it."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    return value


def _text(value: Any) -> str | None:
    return None if value is None else str(_plain(value))


def _time(value: Any) -> str | None:
    """The time in a column: a time, an RFC 3339 text or one with a space and no zone (UTC), or seconds since 1970."""
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).isoformat()
    if isinstance(value, date):
        return f"{value.isoformat()}T00:00:00Z"
    if isinstance(value, int | float | Decimal) and not isinstance(value, bool):
        try:
            return datetime.fromtimestamp(float(value), UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            return str(value)
    return to_rfc3339(value) if isinstance(value, str) and value.strip() else None
