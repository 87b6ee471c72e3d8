"""The wheel, installed into empty environments outside the clone: a loop closes with it, and the client is light."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from tests.wheels import build_wheel

ROOT = Path(__file__).parents[2]
LIGHT = ("h11", "httpx", "msgspec", "pydantic", "pyyaml", "rich", "typer")
PACKAGED = (
    "everloop/local/kafka-4.1.0.lock",
    "everloop/local/log4j2.properties",
    "everloop/examples/electricity/loop.yaml",
    "everloop/examples/electricity/electricity.csv.gz",
    "everloop_monitoring/console/page.html",
    "everloop_monitoring/console/main.js",
    "everloop_monitoring/migrations/script.py.mako",
    "everloop_registry/migrations/script.py.mako",
)
Command = Callable[..., subprocess.CompletedProcess[str]]

pytestmark = [pytest.mark.process, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built from the clone."""
    return build_wheel(ROOT, tmp_path_factory.mktemp("dist"))


def environment(folder: Path, wheel: Path, libraries: list[Path]) -> Command:
    """An empty environment with the wheel and these folders of libraries; returns the function that runs a program."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=60)
    install = ["-m", "pip", "--python", str(folder / "bin" / "python"), "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([sys.executable, *install, str(wheel)], check=True, timeout=120)
    [packages] = folder.glob("lib/python*/site-packages")
    (packages / "libraries.pth").write_text("".join(f"{path}\n" for path in libraries))
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("EVERLOOP_", "PYTHON"))}
    outside |= {"EVERLOOP_DATA": str(folder / "data"), "NO_COLOR": "1"}

    def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(folder / "bin" / program), *arguments]
        return subprocess.run(
            command, cwd=folder, env=outside, capture_output=True, text=True, timeout=120, check=False
        )

    return run


def light_libraries(folder: Path) -> Path:
    """A folder with the light dependencies, and what they depend on, as links to this environment's files."""
    folder.mkdir()
    waiting, seen = list(LIGHT), set[str]()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        distribution = metadata.distribution(name)
        for file in distribution.files or ():
            top = file.parts[0]
            if top != ".." and not (folder / top).exists() and top != "__pycache__":
                (folder / top).symlink_to(Path(str(distribution.locate_file(top))))
        required = [r for r in distribution.requires or () if "extra ==" not in r]
        waiting += [found for found in map(_name_of, required) if found]
    return folder


def _name_of(requirement: str) -> str | None:
    """The name in a requirement; None where it is not installed, as its marker does not hold here."""
    matched = re.match(r"[\w.-]+", requirement)
    try:
        return metadata.distribution(matched[0]).name if matched else None
    except metadata.PackageNotFoundError:
        return None


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The wheel with every library of this environment."""
    libraries = list(dict.fromkeys(Path(p) for p in sys.path if p.endswith("site-packages")))
    run = environment(tmp_path_factory.mktemp("everloop"), wheel, libraries or [Path(sysconfig.get_path("purelib"))])
    yield run
    run("everloop", "down")


def test_the_wheel_holds_all_that_runs_outside_the_clone(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}

    assert set(PACKAGED) <= names
    assert {f"{package}/py.typed" for package in packages} <= names
    assert packages == {path.parent.name for path in ROOT.glob("s*/**/py.typed") if ".venv" not in path.parts}


def test_a_loop_closes_outside_the_clone(installed: Command) -> None:
    def everloop(*arguments: str) -> Any:
        done = installed("everloop", *arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    where = installed("python", "-c", "import everloop; print(everloop.__path__[0])").stdout.strip()
    example = Path(where) / "examples" / "electricity"
    fields = dict.fromkeys(("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"), 0.5)

    everloop("up", "--bus", "memory", "--ports", "auto", "--detach")
    everloop("apply", "-f", str(example / "loop.yaml"))
    replayed = everloop("replay", "electricity", str(example / "electricity.csv.gz"), "--label-column", "class",
                        "--limit", "300", "--lockstep")  # fmt: skip
    answer = everloop("predict", "electricity", json.dumps(fields), "--id", "asked")
    everloop("label", "electricity", "asked", "true")
    status = everloop("status", "electricity")

    assert Path(where).parent.name == "site-packages"
    assert ROOT not in Path(where).parents
    assert (replayed["accepted"], replayed["labels"]) == (300, 300)
    assert answer["version"] != "0", "a trained model has replaced the baseline"
    assert status["champion"]["version"] != "0"
    assert installed("everloop", "down").returncode == 0


def test_the_light_dependencies_are_enough_for_the_client_and_the_command(wheel: Path, tmp_path: Path) -> None:
    run = environment(tmp_path / "light", wheel, [light_libraries(tmp_path / "libraries")])

    heavy = run("python", "-c", "import faust")
    client = run("python", "-c", "from everloop import AsyncEverloop, Everloop; Everloop(ingest='http://x').close()")
    help_, up = run("everloop", "--help"), run("everloop", "up")

    assert "ModuleNotFoundError" in heavy.stderr
    assert (client.returncode, client.stderr) == (0, "")
    assert (help_.returncode, "publish" in help_.stdout, "up" in help_.stdout) == (0, True, True)
    assert (up.returncode, up.stdout) == (2, "")
    assert up.stderr == "everloop: everloop up needs the local installation: pip install 'everloop[local]'\n"
