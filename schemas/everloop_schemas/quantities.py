"""Durations, counts and shares as a loop file writes them: `7d`, `100 outcomes`, `25%`."""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import BeforeValidator

UNITS_S = {"ms": 0.001, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}
MAX_DURATION_S = 3650 * 86400.0
"""Longer durations count as this one, so that a date and a duration are still a date."""
MAX_COUNT = 10_000_000


def parse_duration_s(duration: str) -> float:
    """The seconds of a duration such as `7d`, `12h`, `30s` or `20ms`; infinite where no double can hold them."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|min|h|d)\s*", duration)
    if not match or float(match[1]) <= 0:
        raise ValueError("must be a duration above 0 such as 7d, 12h, 30m, 10s or 20ms")
    return float(match[1]) * UNITS_S[match[2]]


def parse_count(value: Any, unit: str) -> int:
    """The number in `100 outcomes`, or the bare number."""
    text = str(value).strip()
    match = re.fullmatch(rf"0*([0-9]{{1,8}})(?:\s+{unit}s?)?", text)
    if isinstance(value, bool) or not match or int(match[1]) > MAX_COUNT:
        raise ValueError(f"must be a whole number of {unit}s up to {MAX_COUNT:,}, such as '100 {unit}s'")
    return int(match[1])


def parse_share(value: Any) -> float:
    """The fraction in `25%`, or the bare fraction."""
    number = _parse_fraction(value)
    if not 0 < number < 1:
        raise ValueError("must be a share between 0 and 100 %, such as 25%")
    return number


def parse_share_or_all(value: Any) -> float:
    """The fraction in `25%`, or the bare fraction; all is 100% or 1."""
    number = _parse_fraction(value)
    if not 0 < number <= 1:
        raise ValueError("must be a share above 0 and up to 100 %, such as 99%")
    return number


def _parse_fraction(value: Any) -> float:
    """-1 for what is no number."""
    text = str(value).strip()
    try:
        number = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return -1.0
    return -1.0 if isinstance(value, bool) else number


def _check_duration(value: Any) -> str:
    parse_duration_s(str(value))
    return str(value)


def _parse_outcomes(value: Any) -> int:
    return parse_count(value, "outcome")


def _parse_predictions(value: Any) -> int:
    return parse_count(value, "prediction")


Duration = Annotated[str, BeforeValidator(_check_duration)]
OutcomeCount = Annotated[int, BeforeValidator(_parse_outcomes, json_schema_input_type=int | str)]
PredictionCount = Annotated[int, BeforeValidator(_parse_predictions, json_schema_input_type=int | str)]
Share = Annotated[float, BeforeValidator(parse_share, json_schema_input_type=float | str)]
ShareOrAll = Annotated[float, BeforeValidator(parse_share_or_all, json_schema_input_type=float | str)]
