"""Environments of integration tests are made once for each recipe; where one cannot be made, its tests are skipped."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.integrations import environments
from tests.integrations.environments import NotMade, environment, make

INSTALL = """#!/bin/sh
mkdir -p "$1/bin" && ln -s "$PYTHON" "$1/bin/python" && echo made >> "$1/../log"
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The installation script of an environment named `other`."""
    monkeypatch.setattr(environments, "RECIPES", tmp_path / "recipes")
    monkeypatch.setattr(environments, "FOLDER", tmp_path / "made")
    script = tmp_path / "recipes" / "other" / "install.sh"
    script.parent.mkdir(parents=True)
    _write(script, INSTALL)
    return script


def _write(script: Path, text: str) -> None:
    script.write_text(text)
    script.chmod(0o755)


def test_an_environment_is_made_once_and_again_when_its_recipe_changes(recipe: Path, tmp_path: Path) -> None:
    make("other")
    make("other")
    _write(recipe, f"{INSTALL}# changed\n")
    make("other")

    assert (tmp_path / "made" / "log").read_text() == "made\n" * 2


def test_a_process_in_an_environment_sees_the_code_of_the_project(recipe: Path) -> None:
    make("other")

    other = environment("other")

    said = subprocess.check_output([other.python, "-c", "import everloop_schemas; print('seen')"], env=other.variables)
    assert said == b"seen\n"


def test_a_test_whose_environment_cannot_be_made_is_skipped_with_the_reason(recipe: Path) -> None:
    _write(recipe, "#!/bin/sh\necho no room on the disk; exit 1\n")
    with pytest.raises(NotMade, match="no room on the disk"):
        make("other")

    with pytest.raises(pytest.skip.Exception, match="no room on the disk"):
        environment("other")


def test_a_test_whose_environment_was_not_made_names_the_command_that_makes_it(recipe: Path) -> None:
    with pytest.raises(pytest.skip.Exception, match="make integrations"):
        environment("other")


def test_a_folder_that_something_else_made_is_left_alone(recipe: Path, tmp_path: Path) -> None:
    other = tmp_path / "made" / "other" / "file"
    other.parent.mkdir(parents=True)
    other.touch()

    with pytest.raises(NotMade, match="move it away"):
        make("other")

    assert other.exists()
