"""How the program fails: exit statuses, problems for programs, and what bounds a replay."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.everloop.test_command_line import ROWS, run

from everloop.cli import build

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app


def test_with_json_a_failure_is_a_problem_on_standard_output(installation: Served, tmp_path: Path) -> None:
    refused = run("apply", "-f", "-", "--json", stdin="loop: market\nmodels: [{estimator: os.system}]\n")
    unknown = run("versions", "nowhere", "--json")
    missing = run("status", "market", "--json", "--data", str(tmp_path / "nowhere"))
    wrong = [run("status", "--jsn", "--json"), run("label", "market", "id", "--json")]
    plain = run("versions", "nowhere")

    problems = [json.loads(out.stdout) for out in (refused, unknown, missing, *wrong)]
    assert [out.exit_code for out in (refused, unknown, missing, *wrong)] == [1, 1, 1, 2, 2]
    assert problems[0]["errors"] == [{"field": "models.0.estimator", "error": "is not a river class"}]
    assert (problems[0]["status"], problems[1]["status"], problems[1]["code"]) == (422, 404, "not_found")
    assert "No local installation" in problems[2]["detail"]
    assert ["--jsn" in problems[3]["detail"], "LABEL" in problems[4]["detail"]] == [True, True]
    assert all(p["type"] == "about:blank" and p["title"] for p in problems)
    assert (plain.exit_code, plain.stdout) == (1, "")


def test_history_is_shown_as_of_a_moment(installation: Served) -> None:
    out = run("history", "market", "--as-of", "2024-05-01T12:00:00+02:00", "--json")
    versions = run("versions", "market", "--as-of", "2024-05-01T12:00:00+02:00", "--json")

    assert json.loads(out.stdout) == [{"as_of": "2024-05-01T12:00:00+02:00"}]
    assert json.loads(versions.stdout) == [{"as_of": "2024-05-01T12:00:00+02:00"}]


def test_every_help_names_the_exit_statuses_and_an_example() -> None:
    def commands(app: Any, *path: str) -> Iterator[tuple[str, ...]]:
        yield from ((*path, command.name) for command in app.registered_commands)
        for group in app.registered_groups:
            yield from commands(group.typer_instance, *path, group.name)

    helps = {path: run(*path, "--help").stdout for path in commands(build())}

    assert len(helps) > 15
    assert [path for path, text in helps.items() if "Exit status: 0" not in text or "Example: " not in text] == []


@pytest.mark.parametrize("options", [["--label-delay", "1"], ["--label-delay", "20"]])
def test_a_replay_with_a_label_delay_says_that_it_bounds_the_rate(installation: Served, options: list[str]) -> None:
    file = installation.folder / "rows.csv"
    file.write_text(ROWS)

    out = run("replay", "market", str(file), "--label-column", "class", *options)

    assert "in flight, which bounds the rate; a larger --label-delay is faster" in out.stderr
