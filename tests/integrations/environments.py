"""Virtual environments for integration tests, with packages that the project's own cannot or should not hold.

Each folder below `environments/` is the recipe of one: `requirements.txt`, which uv installs, or `install.sh`, which
gets the folder to fill with bin/python, or both in this order; both run in the root of the repository.
`make integrations` makes them below .integrations, or below the folder that EVERLOOP_INTEGRATIONS names; one alone is
made by `python -m tests.integrations.environments NAME`.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
RECIPES = Path(__file__).with_name("environments")
FOLDER = Path(os.environ.get("EVERLOOP_INTEGRATIONS") or ROOT / ".integrations")
STARTED, MADE, WHY_NOT = ".started", ".made", "why-not.txt"
MAKE_S = 3_600.0  # Kubernetes is built from source
SOURCES = (*sorted((ROOT / "services").iterdir()), ROOT / "shared", ROOT / "schemas")


class NotMade(Exception):
    """An environment cannot be made here; the text is the reason."""


class Environment(NamedTuple):
    """An environment that was made: its Python, and the variables of a process in it, which sees the project's code."""

    python: str
    variables: dict[str, str]


def names() -> list[str]:
    """The environments that there are recipes for."""
    return sorted(folder.name for folder in RECIPES.iterdir() if folder.is_dir())


def environment(name: str) -> Environment:
    """The environment of this name; skips the test that asks where it was not made."""
    try:
        return find(name)
    except NotMade as e:
        pytest.skip(str(e))


def find(name: str) -> Environment:
    """The environment of this name; raises NotMade where it was not made before."""
    folder = FOLDER / name
    if not _is_made(name):
        why_not = folder / WHY_NOT
        raise NotMade(why_not.read_text() if why_not.exists() else f"environment {name} is not made: make integrations")
    path = os.pathsep.join(map(str, [*SOURCES, ROOT]))
    return Environment(str(_python(folder)), {**os.environ, "PYTHONPATH": path, "EVERLOOP_SOURCE": str(ROOT)})


def make(name: str) -> None:
    """Make it, unless it was made by the same recipe before; raises NotMade."""
    folder = FOLDER / name
    folder.mkdir(parents=True, exist_ok=True)
    with (FOLDER / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if _is_made(name):
            return
        if any(folder.iterdir()) and not any((folder / own).exists() for own in (STARTED, MADE, WHY_NOT)):
            raise NotMade(f"{folder} is not empty, and was not made by make integrations: move it away")
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / STARTED).touch()
        try:
            _install(RECIPES / name, folder)
        except NotMade as e:
            (folder / WHY_NOT).write_text(str(e))
            raise
        (folder / MADE).write_text(_digest(name))


def _install(recipe: Path, folder: Path) -> None:
    requirements, script = recipe / "requirements.txt", recipe / "install.sh"
    if requirements.exists():
        _run(sys.executable, "-m", "venv", "--without-pip", str(folder))
        uv = Path(sys.executable).with_name("uv")
        _run(str(uv), "pip", "install", "--quiet", "--python", str(_python(folder)), "-r", str(requirements))
    if script.exists():
        _run(str(script), str(folder))
    if not _python(folder).exists():
        raise NotMade(f"the recipe {recipe.name} left no bin/python")


def _run(*command: str) -> None:
    try:
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=MAKE_S,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHON": sys.executable},
        )
    except subprocess.CalledProcessError as e:
        raise NotMade(f"{Path(command[0]).name} {' '.join(command[1:3])} failed: {_last_lines(e.stdout)}") from None
    except (subprocess.TimeoutExpired, OSError) as e:
        raise NotMade(str(e)) from None


def _last_lines(text: str) -> str:
    return " ".join(text.split())[-400:]


def _python(folder: Path) -> Path:
    return folder / "bin" / "python"


def _is_made(name: str) -> bool:
    made = FOLDER / name / MADE
    return made.exists() and made.read_text() == _digest(name)


def _digest(name: str) -> str:
    files = sorted(file for file in (RECIPES / name).rglob("*") if file.is_file())
    return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()


if __name__ == "__main__":
    for wanted in sys.argv[1:] or names():
        make(wanted)
