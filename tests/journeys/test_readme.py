"""The README's first loop, taken from the README and run as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.journeys.house import House, until

pytestmark = [pytest.mark.journey, pytest.mark.timeout(120)]
README = Path(__file__).parents[2] / "README.md"


def block(language: str) -> str:
    """The first code block of a language below "Your first loop"."""
    text = README.read_text().partition("## Your first loop")[2]
    found = re.search(rf"```{language}\n(.*?)```", text, re.DOTALL)
    assert found, f"the README has no {language} block"
    return found[1]


def test_the_first_loop_of_the_readme_works_as_it_is_written(house: House, tmp_path: Path) -> None:
    (tmp_path / "churn.yaml").write_text(block("yaml"))
    env = {**os.environ, "EVERLOOP_DATA": str(house.folder), "NO_COLOR": "1"}
    commands = [line for line in block("sh").splitlines() if line]

    for command in commands:
        words = command.replace(".venv/bin/everloop", f"{sys.executable} -m everloop").split()
        done = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=100, check=False)
        assert done.returncode == 0, f"{command}: {done.stderr}"
    said = subprocess.run([sys.executable, "-c", block("python")], cwd=tmp_path, env=env, timeout=60, check=False)

    assert len(commands) == 2
    assert said.returncode == 0
    assert until(lambda: house.status("churn")["outcomes"] == 1, 30)
