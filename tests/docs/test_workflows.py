"""The workflows and the action: pinned, with few permissions, and with nothing of an event in a script."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}
ACTION = ROOT / ".github" / "actions" / "everloop"
PUBLISHING = ("images", "release", "integrations")
"""Workflows that write, sign, publish, or run what others have made."""


def steps(file: Path) -> Iterator[dict[str, Any]]:
    """All steps of a workflow or an action."""
    read = yaml.safe_load(file.read_text())
    jobs = read["jobs"].values() if "jobs" in read else [read["runs"]]
    yield from (step for job in jobs for step in job["steps"])


@pytest.mark.parametrize("name", PUBLISHING)
def test_each_action_is_pinned_by_the_sha_of_a_commit_with_its_version(name: str) -> None:
    used = re.findall(r"uses: (.*)", WORKFLOWS[name].read_text())

    assert used
    assert [line for line in used if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)] == []


def test_a_version_has_one_sha_everywhere() -> None:
    text = "\n".join(path.read_text() for path in WORKFLOWS.values())
    text += (ROOT / "shared" / "docs" / "ci-for-loops.md").read_text()
    pins = set(re.findall(r"uses: ([\w./-]+)@([0-9a-f]{40}) # (v[\d.]+)", text))

    assert len({(action, version) for action, _, version in pins}) == len(pins)


@pytest.mark.parametrize(
    "file", [*(WORKFLOWS[name] for name in PUBLISHING), ACTION / "action.yml"], ids=lambda f: f.stem
)
def test_scripts_take_what_is_given_from_the_environment(file: Path) -> None:
    scripts = [step["run"] for step in steps(file) if "run" in step]

    assert scripts
    assert [script for script in scripts if "${{" in script] == []


@pytest.mark.parametrize("name", sorted(WORKFLOWS))
def test_a_workflow_may_read_and_jobs_that_write_say_so(name: str) -> None:
    read = yaml.safe_load(WORKFLOWS[name].read_text())

    assert read["permissions"] == {"contents": "read"}
    assert [job for job in read["jobs"].values() if "timeout-minutes" not in job] == []


def test_the_action_installs_this_version_with_the_libraries_of_the_lock() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    locked = set(re.findall(r"^[\w.-]+==[^ ]+", (ROOT / "deploy" / "requirements.lock").read_text(), re.MULTILINE))

    constraints = (ACTION / "constraints.txt").read_text().splitlines()[1:]
    package = yaml.safe_load((ACTION / "action.yml").read_text())["inputs"]["package"]["default"]

    assert package == f"everloop=={version}"
    assert set(constraints) - locked == set()
    assert {"httpx", "pydantic", "typer"} <= {line.partition("==")[0] for line in constraints}
