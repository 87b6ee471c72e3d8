"""The errors of loop files that the registry refuses, and small loop files to begin with."""

from __future__ import annotations

import json
import time

import pytest

from everloop_registry.domain.spec_file import read_spec
from everloop_registry.errors import SpecRejected
from everloop_shared.http.problems import problem_of

BINARY = "loop: x\ntask: binary\nschema:\n  x: {type: number}\n"
MANY = "loop: x\ntask: multiclass\nschema:\n  x: {type: number}\n"
AMOUNT = "loop: x\ntask: regression\nschema:\n  x: {type: number}\n"
DIGITS = "9" * 400


def errors_of(body: str | bytes, *, is_json: bool = False) -> dict[str, str]:
    """The errors of a file, by field; found at once, and brief."""
    raw = body if isinstance(body, bytes) else body.encode()
    started = time.process_time()
    with pytest.raises(SpecRejected) as refused:
        read_spec(raw, is_json=is_json)
    assert time.process_time() - started < 2
    response = problem_of(refused.value)
    assert response.status_code == 422
    assert len(response.body) < 64 * 1024
    assert 1 <= len(json.loads(bytes(response.body))["errors"]) <= 50
    return {e.field: e.error for e in refused.value.errors}
