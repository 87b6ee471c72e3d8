"""How long a loop may say that it keeps what is personal."""

from __future__ import annotations

import pytest
from tests.registry.spec_refusals import BINARY, errors_of

from everloop_registry.domain.spec_file import read_spec

PERSONAL = BINARY.replace("{type: number}", "{type: number, personal: true}")


@pytest.mark.parametrize(
    ("file", "kept", "named"),
    [
        (BINARY, "400d", "mark a field"),
        (PERSONAL, "12h", "at least 1d"),
        (PERSONAL, "3d", "label.within"),
        (PERSONAL, "9999d", "3,650 days"),
        (PERSONAL, "soon", "duration"),
    ],
)
def test_a_retention_that_would_forget_nothing_or_too_much_is_refused(file: str, kept: str, named: str) -> None:
    errors = errors_of(file + f"retention: {{personal: {kept}}}\n")

    assert named in errors["retention.personal"]


def test_a_retention_of_personal_fields_is_read() -> None:
    spec = read_spec((PERSONAL + "retention: {personal: 400d}\n").encode(), is_json=False)

    assert spec.retention.personal == "400d"
