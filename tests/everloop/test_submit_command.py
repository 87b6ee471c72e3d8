"""`everloop submit`: what it sends with a model, what it prints, and what it refuses before it sends anything."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner, Result

from everloop.cli import build

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A model."""
    model = tmp_path / "My Forest.onnx"
    model.write_bytes(b"onnx" * 100_000)
    return model


def submit(*arguments: str | Path) -> Result:
    """Run the command."""
    return CliRunner().invoke(build(), ["submit", "market", *map(str, arguments)], prog_name="everloop")


def test_a_model_is_sent_whole_and_the_version_is_named(installation: Served, file: Path) -> None:
    out = submit(file, "--metric", "auc=0.91", "--features", "price, demand", "--classes", "[false, true]")

    assert (out.exit_code, out.stdout.split(" ")[0]) == (0, "my-forest-1@0")
    assert [body for path, body in installation.seen if path.endswith("/versions")] == [file.read_bytes()]


def test_with_json_the_whole_answer_is_printed(installation: Served, file: Path) -> None:
    out = submit(file, "--name", "forest", "--json")

    assert json.loads(out.stdout)["version"] == "forest-1@0"


def test_it_is_sent_again_whole_after_a_fault(installation: Served, file: Path) -> None:
    installation.faults[:] = [503]

    out = submit(file, "--name", "forest")

    assert (out.exit_code, len(installation.seen)) == (0, 1)
    assert installation.seen[0][1] == file.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--metric", "auc"], "NAME=VALUE"),
        (["--metric", "auc=high"], "must be a number"),
        (["--classes", "a,b"], "--classes"),
        (["--classes", "3"], "must be a list"),
    ],
)
def test_wrong_options_are_refused_before_anything_is_sent(
    installation: Served, file: Path, arguments: list[str], says: str
) -> None:
    out = submit(file, *arguments)

    assert out.exit_code == 1
    assert says in out.stderr
    assert installation.seen == []


def test_a_file_that_cannot_be_read_or_named_is_one_sentence(installation: Served, tmp_path: Path) -> None:
    (tmp_path / "1.onnx").write_bytes(b"onnx")

    missing, nameless = submit(tmp_path / "none.onnx"), submit(tmp_path / "1.onnx")

    assert "cannot be read" in missing.stderr
    assert "--name" in nameless.stderr
