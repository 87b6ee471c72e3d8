"""Searches logged models in memory, by MLflow's language for filters, and answers page by page."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

from everloop_registry.domain.filters import Condition, Field, Searchable, parse_filter, parse_orders
from everloop_registry.domain.tracking import LoggedModelDetails
from everloop_registry.errors import FilterRejected

T = TypeVar("T")
SEARCHABLE = Searchable(
    kinds=frozenset({"metric", "parameter", "tag", "attribute"}),
    texts={
        "name": "name",
        "model_id": "id",
        "model_type": "kind",
        "status": "status",
        "source_run_id": "run",
        "experiment_id": "experiment",
    },
    numbers={
        "creation_timestamp": "created_ms",
        "creation_time": "created_ms",
        "last_updated_timestamp": "updated_ms",
        "last_updated_time": "updated_ms",
    },
)
STATUSES = {"PENDING": "LOGGED_MODEL_PENDING", "READY": "LOGGED_MODEL_READY", "FAILED": "LOGGED_MODEL_UPLOAD_FAILED"}
"""What clients call a status in filters."""


class OrderField(NamedTuple):
    """One order of a search."""

    field: str
    ascending: bool


def search_models(
    known: Sequence[LoggedModelDetails], text: str, order: Sequence[OrderField]
) -> list[LoggedModelDetails]:
    """Those that a filter lets through, in an order; raises FilterRejected."""
    conditions = parse_filter(text, SEARCHABLE)
    found = [model for model in known if all(_holds(model, c) for c in conditions)]
    for each in reversed(order):
        [parsed] = parse_orders([each.field], SEARCHABLE)
        field = parsed.field
        there = [m for m in found if _value(m, field) is not None]
        missing = [m for m in found if _value(m, field) is None]
        there.sort(key=lambda m: _sorted_by(m, field), reverse=not each.ascending)
        found = there + missing
    return found


def read_page(found: Sequence[T], token: str, size: int) -> tuple[Sequence[T], str | None]:
    """A page, and the token of the next one; raises FilterRejected for a token of somebody else."""
    if token and not (token.isascii() and token.isdigit() and len(token) < 10):
        raise FilterRejected("page_token: is none that this server gave")
    start = int(token or 0)
    end = start + size
    return found[start:end], str(end) if end < len(found) else None


def _sorted_by(model: LoggedModelDetails, field: Field) -> tuple[float, str]:
    value = _value(model, field)
    return (0.0, value) if isinstance(value, str) else (value or 0.0, "")


def _value(model: LoggedModelDetails, field: Field) -> str | float | None:
    match field.kind:
        case "metric":
            return next((m.value for m in model.metrics if m.key == field.key), None)
        case "parameter":
            return model.parameters.get(field.key)
        case "tag":
            return model.tags.get(field.key)
    found: str | float | None = getattr(model.model, field.key)
    return found


def _holds(model: LoggedModelDetails, condition: Condition) -> bool:
    value, wanted = _value(model, condition.field), condition.value
    if condition.operator in ("IS NULL", "IS NOT NULL"):
        return (value is None) == (condition.operator == "IS NULL")
    if value is None:
        return False
    if isinstance(value, str):
        return _holds_text(value, condition.operator, wanted, condition.field.key == "status")
    assert isinstance(wanted, int | float), "the parser has read a number"
    compared = {
        "=": value == wanted,
        "!=": value != wanted,
        "<": value < wanted,
        "<=": value <= wanted,
        ">": value > wanted,
        ">=": value >= wanted,
    }
    return compared[condition.operator]


def _holds_text(value: str, operator: str, wanted: object, is_status: bool) -> bool:
    texts = [str(w) for w in wanted] if isinstance(wanted, tuple) else [str(wanted)]
    texts = [STATUSES.get(text, text) for text in texts] if is_status else texts
    if operator == "ILIKE":
        value, texts = value.lower(), [texts[0].lower()]
    if operator in ("LIKE", "ILIKE"):
        return is_like(value, texts[0])
    return (value in texts) == (operator in ("=", "IN"))


def is_like(value: str, pattern: str) -> bool:
    """Whether a text is like a pattern of SQL, `%` for any characters and `_` for one, in time linear in `%`."""
    first, *parts = [re.escape(part).replace("_", ".") for part in pattern.split("%")]
    if not parts:
        return re.fullmatch(first, value, re.DOTALL) is not None
    found, at = re.match(first, value, re.DOTALL), 0
    for part in parts[:-1]:
        if found is None:
            return False
        at = found.end()
        found = re.compile(part, re.DOTALL).search(value, at)
    if found is None:
        return False
    end = len(value) - len(pattern.rpartition("%")[2])
    return end >= found.end() and re.compile(parts[-1], re.DOTALL).fullmatch(value, end) is not None
