"""The name of a version is parsed and formatted in one place."""

from __future__ import annotations

import pytest

from everloop_learning.version import NO_OFFSET, Version, line_of
from everloop_schemas.registry import BASELINE


@pytest.mark.parametrize("version", [Version("logistic-0", 41), Version("a.2-7", 0), Version(BASELINE)])
def test_a_version_is_what_its_name_says(version: Version) -> None:
    assert Version.parse(str(version)) == version


def test_the_baseline_is_a_line_without_an_offset() -> None:
    assert Version.parse(BASELINE) == Version(BASELINE, NO_OFFSET)
    assert str(Version(BASELINE)) == BASELINE


@pytest.mark.parametrize(
    ("name", "line"), [("a@x", "a"), ("a@", "a"), ("a@@5", "a@"), ("a@-1", "a"), ("a@٣", "a"), ("", ""), ("a", "a")]
)
def test_the_line_of_a_name_that_is_no_version_is_what_stands_before_the_last_at_sign(name: str, line: str) -> None:
    assert line_of(name) == line


@pytest.mark.parametrize("name", ["a@x", "a@", "a@-1", "a@٣", "", "a", "@5"])
def test_a_name_without_a_whole_number_has_no_offset(name: str) -> None:
    assert Version.parse(name).offset == NO_OFFSET
