"""Which parameters a spec may give a River estimator: bounded by the type and size of each one's default."""

from __future__ import annotations

import math
from inspect import Parameter

from everloop_models.errors import ModelSpecInvalid
from everloop_schemas.envelope import Scalar

MAX_MEMBERS = 100
MAX_NUMBER = 10_000.0
MAX_SEED = 2**32 - 1
MAX_TEXT_CHARACTERS = 100
REPEATED = ("degree", "lam", "lambda_value", "level", "w")
"""Parameters that multiply the work of an event, beside all that count members (`n_models`, `n_estimators`...)."""
NUMBERS_BY_DEFAULT_NONE = ("max_depth", "max_nodes", "seed", "window_size")
NUMBERS_BY_DEFAULT_TEXT = ("max_features",)
"""Parameters that take a number although River's default is None or text; elsewhere None stands for an object."""


def check_parameter(parameter: Parameter, value: Scalar | None, field: str) -> None:
    """Raise ModelSpecInvalid for a value of another type than the default, or beyond what any loop needs.

    A whole number may be up to 10,000 (or the default, where that is larger), one that counts members or repetitions
    up to 100, and only a fraction may be negative.
    """
    name, default = parameter.name, parameter.default
    if value is None:
        if default is not None:
            raise ModelSpecInvalid(field, "must have a value; leave it out for river's default")
    elif isinstance(value, str):
        _check_text(default, value, field)
    elif isinstance(value, bool):
        if not isinstance(default, bool) and default is not Parameter.empty:
            raise ModelSpecInvalid(field, "must not be true or false")
    elif isinstance(default, bool):
        raise ModelSpecInvalid(field, "must be true or false")
    elif isinstance(default, str) and name not in NUMBERS_BY_DEFAULT_TEXT:
        raise ModelSpecInvalid(field, "must be text; river's default is " + repr(default)[:40])
    elif default is None and name not in NUMBERS_BY_DEFAULT_NONE:
        raise ModelSpecInvalid(field, "is an object in river and cannot be given here; leave it out")
    else:
        _check_number(name, default, value, field)


def _check_text(default: object, value: str, field: str) -> None:
    if default is not Parameter.empty and not isinstance(default, str):
        raise ModelSpecInvalid(field, "must not be text; river's default is " + repr(default)[:40])
    if len(value) > MAX_TEXT_CHARACTERS:
        raise ModelSpecInvalid(field, f"must have at most {MAX_TEXT_CHARACTERS} characters")


def _check_number(name: str, default: object, value: float, field: str) -> None:
    usual = abs(default) if isinstance(default, int | float) else 0
    smallest, largest = 0.0, max(MAX_NUMBER, usual)
    if name == "seed":
        largest = MAX_SEED
    elif name in REPEATED or (name.startswith("n_") and usual <= MAX_MEMBERS):
        largest = MAX_MEMBERS
    elif isinstance(default, float):
        smallest = -largest
    if not math.isfinite(value) or not smallest <= value <= largest:
        raise ModelSpecInvalid(field, f"must be a number from {smallest:,.15g} to {largest:,.15g}")
