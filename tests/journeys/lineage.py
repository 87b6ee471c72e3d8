"""The lineage of a real installation: `everloop lineage` by the commands of its page, and a registry that is killed."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.journeys.installation import Installation, until
from tests.monitoring.http_receiver import HttpReceiver
from tests.registry.openlineage_checks import Sent, sent

PAGE = Path(__file__).parents[2] / "shared/docs/lineage.md"
LOOP = "market"


def check_lineage_of_answer(installation: Installation, promoted: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    """From the promoted version, one of its predictions and its run to the drift behind it, and back."""
    version, drift = promoted["subject"], run["causationid"]
    made = [e for e in installation.read("serving.prediction_made.v1", LOOP) if e["data"]["version"] == version]
    assert made, "a champion was a canary before, and has predicted"
    given = {"prediction": made[-1]["subject"], "version": version, "run": run["correlationid"], "drift": drift}

    by = {kind: ask(installation, command) for kind, command in documented(given).items()}

    assert by.keys() == given.keys()
    assert [list(by[kind]["drifts"]) for kind in given] == [[drift]] * 4
    assert (by["prediction"]["version"], by["prediction"]["prediction"]["id"]) == (version, made[-1]["subject"])
    [source] = by["version"]["runs"]
    assert (source["run"], [one["version"] for one in source["versions"]]) == (run["correlationid"], [version])
    assert "model_promoted" in {one["decision"] for one in source["decisions"]}
    assert [one["run"] for one in by["run"]["runs"]] == [run["correlationid"]]
    assert run["correlationid"] in {one["run"] for one in by["drift"]["runs"]}
    assert until(lambda: counted(installation, version) == len(made), 20)


def documented(given: Mapping[str, str]) -> dict[str, list[str]]:
    """The commands of the page by their option, with ids of this loop in place of the page's."""
    found = re.search(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert found
    lines = [shlex.split(line, comments=True) for line in found[1].splitlines()]
    commands = dict[str, list[str]]()
    for program, command, loop, option, _, *rest in lines:
        assert (program, command, loop) == ("everloop", "lineage", LOOP)
        kind = option.removeprefix("--")
        commands[kind] = [command, loop, option, given[kind], *rest]
    return commands


def ask(installation: Installation, command: list[str]) -> dict[str, Any]:
    """What a command says, for programs."""
    done = installation.everloop(*command, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def counted(installation: Installation, version: str) -> int:
    """How many predictions the version made, as monitoring has counted."""
    by_version = ask(installation, ["lineage", LOOP, "--version", version])
    return sum(one["predictions"] for one in by_version["made"][version]["made"])


def of_loop(receiver: HttpReceiver, loop: str) -> list[Sent]:
    """The events about a loop, in order."""
    return [event for event in sent(receiver) if event["job"]["name"].startswith(f"{loop}.")]


def kill_registry_before_an_answer(installation: Installation, backend: HttpReceiver, act: Callable[[], None]) -> bytes:
    """Do what the backend is told of, and kill the registry between its event and the answer; returns the event."""
    came = len(backend.received)
    backend.open.clear()
    try:
        act()
        assert until(lambda: len(backend.received) > came, 30), "the backend is told"
        os.kill(installation.services()["registry"]["pid"], signal.SIGKILL)
    finally:
        backend.open.set()
    return backend.received[-1].body
