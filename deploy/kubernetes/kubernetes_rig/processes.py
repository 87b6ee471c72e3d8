"""Processes that outlive the command that started them, and are ended by their ids alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kubernetes_rig.errors import RigError

START_S = 120.0
STOP_S = 20.0
PLAIN_LISTS = {"KUBE_FEATURE_WatchListClient": "false"}
"""Debian's etcd is too old for lists by watching: clients would find out by an error and a wait, each time."""


class Processes:
    """The processes of one rig, as its folder records them: a name, an id, and when the process began.

    An id is given to another process after its own has ended; the time of the start tells the two apart.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / "processes.json"
        self._logs = folder / "logs"

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start it in a session of its own, so that Ctrl-C at the terminal does not reach it; its output is logged."""
        self._logs.mkdir(parents=True, exist_ok=True)
        with self.log(name).open("ab") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **PLAIN_LISTS, **(environment or {})},
            )
        known = self._known()
        known[name] = {"pid": process.pid, "started": _started(process.pid)}
        self._file.write_text(json.dumps(known, indent=1))

    def log(self, name: str) -> Path:
        """The file with what the process printed."""
        return self._logs / f"{name}.log"

    def missing(self, names: Sequence[str]) -> list[str]:
        """Those of `names` that do not run."""
        known = self._known()
        return [name for name in names if name not in known or not _is_running(known[name])]

    def wait(self, name: str, is_ready: Callable[[], bool]) -> None:
        """Wait until it is ready; raises RigError with the end of its log where it ended or takes too long."""
        deadline = time.monotonic() + START_S
        while not is_ready():
            _reap()
            if self.missing([name]) or time.monotonic() > deadline:
                lines = self.log(name).read_text(errors="replace").splitlines()[-15:]
                raise RigError(f"{name} is not ready:\n" + "\n".join(lines))
            time.sleep(0.1)

    def stop(self, *names: str) -> None:
        """End these, or all: the last started first, by SIGTERM, and by SIGKILL who has not ended in time."""
        known = self._known()
        for name in [name for name in reversed(known) if name in names or not names]:
            stop(known.pop(name))
            self._file.write_text(json.dumps(known, indent=1))

    def _known(self) -> dict[str, dict[str, int]]:
        known: dict[str, dict[str, int]] = json.loads(self._file.read_text()) if self._file.exists() else {}
        return known


def stop(process: Mapping[str, int]) -> None:
    """End this process, and return once it is gone."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + STOP_S
        if _is_running(process):
            os.kill(process["pid"], number)
        while _is_running(process) and time.monotonic() < deadline:
            _reap()
            time.sleep(0.05)


def recorded(pid: int) -> dict[str, int]:
    """A process that another has started, as `stop` takes it."""
    return {"pid": pid, "started": _started(pid)}


def _is_running(process: Mapping[str, int]) -> bool:
    return _started(process["pid"]) == process["started"] != 0


def _started(pid: int) -> int:
    """Clock ticks from the machine's start to the process's; 0 where it does not run."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] == "Z" else int(fields[19])


def _reap() -> None:
    """Take note of children that have ended, so that none stays as a zombie."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass
