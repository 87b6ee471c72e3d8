"""Every promise of the README has a test that names it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROW = re.compile(r"^\| (\d+) \| .+ \| (.+) \|$", re.MULTILINE)
LINK = re.compile(r"\[(test_\w+)\]\((tests/\S+\.py)\)")
PROMISES = {int(number): LINK.findall(tests) for number, tests in ROW.findall((ROOT / "README.md").read_text())}


def test_the_readme_has_all_twelve() -> None:
    assert [*PROMISES] == [*range(1, 13)]


@pytest.mark.parametrize("number", PROMISES)
def test_a_promise_names_tests_that_name_it(number: int) -> None:
    assert PROMISES[number]
    for test, file in PROMISES[number]:
        held = rf"@pytest\.mark\.promise\({number}\)\n(?:@.+\n)*(?:async )?def {test}\("
        assert re.search(held, (ROOT / file).read_text()), f"{file} has no {test} marked with promise {number}"
