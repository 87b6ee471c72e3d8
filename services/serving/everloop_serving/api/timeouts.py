"""Reads how long a client waits for its answer: the header `Timeout-Ms`."""

from __future__ import annotations

from everloop_shared.errors import FieldError
from everloop_shared.http.problems import BadRequest

HEADER = "timeout-ms"
MAX_TIMEOUT_MS = 600_000
TIMEOUT_PARAMETER = {
    "name": "Timeout-Ms",
    "in": "header",
    "description": "Milliseconds within which the answer is of use; later it is 504.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MAX_TIMEOUT_MS},
}
"""Its documentation in OpenAPI."""


def deadline_of(header: str | None, now: float) -> float | None:
    """The time, in seconds as `now`, by which a request must be answered; None where it says nothing.

    Raises BadRequest for anything but a whole number of milliseconds.
    """
    if header is None:
        return None
    digits = header.strip()
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 6 and 1 <= int(digits) <= MAX_TIMEOUT_MS):
        fix = f"must be a whole number of milliseconds from 1 to {MAX_TIMEOUT_MS:,}, or left out"
        raise BadRequest(f"Timeout-Ms: {fix}", [FieldError("Timeout-Ms", fix)])
    return now + int(digits) / 1000
