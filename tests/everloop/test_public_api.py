"""The public API: what `everloop.__all__` names exists, is documented by examples that run, and imports no service."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import tomllib
from importlib import import_module, metadata
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import everloop
from everloop.extras import LOCAL_MODULES

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
CLASSES = [name for name in everloop.__all__ if name != "__version__"]
NOT_LIGHT = (*LOCAL_MODULES, "numpy", "psycopg", "starlette")
WITHOUT_EXTRAS = """
import sys
sys.modules.update(dict.fromkeys(sys.argv[1].split(",")))  # an import of these fails, as if they were not installed
sys.argv[1:] = sys.argv[2:]
"""
IMPORT_ALL = WITHOUT_EXTRAS + "import everloop; [getattr(everloop, name) for name in everloop.__all__]"
IMPORT_CLIENTS = WITHOUT_EXTRAS + "from everloop import AsyncEverloop, Everloop; print('pydantic' in sys.modules)"
RUN_COMMAND = WITHOUT_EXTRAS + "from everloop.cli import main; main()"


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own that cannot import what the extras bring."""
    command = [sys.executable, "-c", code, ",".join(NOT_LIGHT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.app
@pytest.mark.parametrize("name", CLASSES)
def test_every_public_class_has_an_example_that_runs(installation: Served, name: str) -> None:
    item = getattr(everloop, name)
    parts = (
        [part for part in inspect.getmro(item) if part.__module__.startswith("everloop.")]
        if inspect.isclass(item)
        else [item]
    )
    finder, found = doctest.DocTestFinder(), []
    for part in parts:
        found += finder.find(part, name, module=import_module(part.__module__), globs=vars(everloop).copy())
    runner, output = doctest.DocTestRunner(), list[str]()

    for example in found:
        example.globs.update({public: getattr(everloop, public) for public in everloop.__all__}, MODEL=b"an ONNX file")
        runner.run(example, out=output.append)

    assert runner.tries > 0
    assert runner.failures == 0, "".join(output)


@pytest.mark.app
def test_the_package_has_an_example_that_runs(installation: Served) -> None:
    output = list[str]()
    [example] = doctest.DocTestFinder(recurse=False).find(everloop, "everloop")

    result = doctest.DocTestRunner().run(example, out=output.append)

    assert (result.attempted > 0, result.failed) == (True, 0), "".join(output)


def test_the_modules_that_a_command_requires_are_those_of_the_extra() -> None:
    extra = [requirement.split(";")[0] for requirement in PYPROJECT["project"]["optional-dependencies"]["local"]]
    required = {requirement.partition("[")[0].rstrip("0123456789.,<>=").strip() for requirement in extra}
    homes = metadata.packages_distributions()  # several may share a module, as those of Google do
    found = {module: {name.lower().replace("_", "-") for name in homes[module]} for module in LOCAL_MODULES}

    assert [module for module, names in found.items() if not names & required] == []
    assert required == {name for names in found.values() for name in names & required}


@pytest.mark.process
def test_the_client_needs_only_the_light_dependencies() -> None:
    done = python(IMPORT_ALL)

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.process
def test_a_client_that_only_sends_waits_for_no_import_of_pydantic() -> None:
    done = python(IMPORT_CLIENTS)

    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.process
def test_every_help_works_with_only_the_light_dependencies() -> None:
    commands = ("publish", "replay", "up", "kafka fetch", "demo", "backup", "restore", "status", "apply")
    done = {command: python(RUN_COMMAND, *command.split(), "--help") for command in commands}

    assert {command: out.returncode for command, out in done.items()} == dict.fromkeys(commands, 0)


@pytest.mark.process
@pytest.mark.parametrize("command", ["up", "down", "demo", "kafka fetch", "backup where", "restore where"])
def test_a_missing_extra_is_one_sentence_with_the_command(command: str) -> None:
    done = python(RUN_COMMAND, *command.split())

    named = command.removesuffix(" where")
    sentence = f"everloop: everloop {named} needs the local installation: pip install 'everloop[local]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", sentence)
