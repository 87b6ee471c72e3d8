"""An installation that is tried from outside: started by the command, asked by HTTP, gRPC and Kafka, ended by pid."""

from __future__ import annotations

import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
SERVICES = ("ingest", "feature", "training", "registry", "serving", "monitoring")
OPEN = ("/livez", "/readyz")
KNOWN_WITHIN_S = 1.2
"""A change of the file of keys takes effect within a second."""
results: list[tuple[bool, str]] = []


class Answer(NamedTuple):
    """Status, headers and body of an answer."""

    status: int
    headers: dict[str, str]
    body: str

    @property
    def code(self) -> str:
        """The code of a problem; empty for another body."""
        try:
            return str(json.loads(self.body).get("code", ""))
        except (ValueError, AttributeError):
            return ""


def check(ok: object, what: str, seen: object = "") -> bool:
    """Print one line, and remember it."""
    results.append((bool(ok), what))
    told = f"   [{str(seen)[:600]}]" if seen != "" and not ok else ""
    say(f"{'ok  ' if ok else 'FAIL'} {what}{told}")
    return bool(ok)


def say(line: str) -> None:
    """Print a line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def until(what: Callable[[], T], deadline_s: float, every_s: float = 0.3) -> T | None:
    """Ask until the answer is true; None at the deadline. What cannot be asked yet is asked again."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        try:
            if got := what():
                return got
        except (OSError, ValueError, KeyError, TypeError):
            pass
        time.sleep(every_s)
    return None


class House:
    """One installation in a folder of its own, which is gone with all its processes after `end`."""

    def __init__(self, kind: str, arguments: tuple[str, ...], settings: Mapping[str, str]) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix=f"everloop-guarded-{kind}-"))
        self.arguments = arguments
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("EVERLOOP_")}
        self.environment = {**inherited, "NO_COLOR": "1", "EVERLOOP_DATA": str(self.folder), **settings}
        self.tokens: list[str] = []

    def everloop(self, *args: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        """The command of the project, as a person calls it."""
        return self.run(str(Path(sys.executable).with_name("everloop")), *args, timeout=timeout, **env)

    def run(self, *command: str, timeout: float = 300, **env: str) -> subprocess.CompletedProcess[str]:
        """Run any command in its folder, with its settings."""
        environment = {**self.environment, **env}
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, cwd=self.folder, env=environment, check=False
        )

    def up(self) -> bool:
        """Start it."""
        begin = time.monotonic()
        done = self.everloop("up", *self.arguments, "--ports", "auto", "--detach", timeout=400)
        say(f"     up took {time.monotonic() - begin:.1f} s")
        called = " ".join(("everloop up", *self.arguments))
        return check(done.returncode == 0, f"an installation starts by {called}", done.stderr[-400:])

    def end(self, keep: bool = False) -> list[str]:
        """End it and everything that it started; what `everloop down` had left, which is nothing if all is well."""
        self.everloop("down", timeout=120)
        left = list(self.processes())
        for pid, _ in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not keep:
            shutil.rmtree(self.folder, ignore_errors=True)
        return [f"{pid} {text}" for pid, text in left]

    def processes(self) -> Iterator[tuple[int, str]]:
        """Pid and command line of each process whose environment or command line names the folder."""
        for process in Path("/proc").iterdir():
            if process.name.isdecimal() and int(process.name) != os.getpid():
                try:
                    line, environment = (process / "cmdline").read_bytes(), (process / "environ").read_bytes()
                except OSError:
                    continue
                if str(self.folder).encode() in line + environment and line:
                    yield int(process.name), line.replace(b"\0", b" ").decode(errors="replace")[:200]

    def services(self) -> dict[str, Any]:
        """What services.json says."""
        return dict(json.loads((self.folder / "services.json").read_text()))

    def url(self, service: str) -> str:
        """The address of a service."""
        return str(self.services()[service]["url"])

    def owner(self) -> str:
        """The token that `up --auth` leaves; empty without."""
        file = self.folder / "token"
        return file.read_text().strip() if file.exists() else ""

    def secret_in(self, file: Path) -> str:
        """What nobody else may see of a file with a key: the first line of a PEM's body, or the whole."""
        lines = file.read_text(errors="replace").splitlines()
        return lines[1] if lines[0].startswith("-----BEGIN") else lines[0]

    def make_key(self, role: str, loops: str = "*", *more: str) -> str:
        """The token of a new key."""
        done = self.everloop("keys", "create", f"{role}-of-{loops}", "--role", role, "--loops", loops, "--json", *more)
        self.tokens.append(str(json.loads(done.stdout)["token"]))
        return self.tokens[-1]

    def matrix(self) -> dict[str, Any]:
        """What `everloop roles` prints for programs."""
        return dict(json.loads(self.everloop("roles", "--json").stdout))

    def trust(self) -> ssl.SSLContext | None:
        """Whom clients trust, with TLS."""
        tls = self.services().get("tls")
        return ssl.create_default_context(cafile=tls["ca"]) if tls else None

    def ask(
        self, method: str, address: str, token: str | None = None, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send a request; headers by their names with an underscore for each hyphen."""
        sent = {name.replace("_", "-"): value for name, value in headers.items() if value}
        if token:
            sent["authorization"] = f"Bearer {token}"
        request = urllib.request.Request(address, data=body, method=method, headers=sent)
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({}), _NoRedirect()]
        if address.startswith("https:"):
            handlers.append(urllib.request.HTTPSHandler(context=self.trust()))
        try:
            with urllib.request.build_opener(*handlers).open(request, timeout=60) as got:
                return _answer(got.status, got.headers, got.read())
        except urllib.error.HTTPError as e:
            return _answer(e.code, e.headers, e.read())

    def tell(self, method: str, service: str, path: str, body: object = None) -> Answer:
        """Send JSON to a service as the owner."""
        data = None if body is None else json.dumps(body).encode()
        kind = "application/json" if data is not None else ""
        return self.ask(method, self.url(service) + path, self.owner() or None, data, content_type=kind)

    def read(self, service: str, path: str) -> Any:
        """The JSON that a service answers to the owner."""
        return json.loads(self.tell("GET", service, path).body)

    def apply(self, loop: str, spec: str) -> bool:
        """Apply a loop file; the command returns once services use it."""
        file = self.folder / f"{loop}.yaml"
        file.write_text(f"loop: {loop}\n{spec}")
        done = self.everloop("apply", "-f", str(file))
        return done.returncode == 0 or check(False, f"everloop apply {loop}", done.stderr[-400:])

    def play(self, loop: str, field: str, begin: int, end: int, name: str = "r") -> None:
        """Publish these rows and, once they were predicted, their labels: whether a row's value is over 0.5."""
        step = 100
        for first in range(begin, end, step):
            rows = [(f"{name}{i}", (i * 7919 % 10_007) / 10_007) for i in range(first, min(first + step, end))]
            self._send(loop, "events", [{"id": i, "data": {field: value}} for i, value in rows])
            until(partial(self._has, loop, "predictions", first + len(rows)), 20, 0.1)
            self._send(loop, "labels", [{"id": i, "label": value > 0.5} for i, value in rows])
        until(partial(self._has, loop, "outcomes", end), 30, 0.2)

    def _has(self, loop: str, what: str, count: int) -> bool:
        return bool(self.status(loop).get(what, 0) >= count)

    def _send(self, loop: str, door: str, rows: list[dict[str, Any]]) -> None:
        answer = self.tell("POST", "ingest", f"/v1/loops/{loop}/{door}", rows)
        if answer.status != 202:
            raise RuntimeError(f"{door} of {loop} answered {answer.status} {answer.body[:200]}")

    def status(self, loop: str) -> dict[str, Any]:
        """The status that `everloop status --json` prints, from where that has it."""
        answer = self.tell("GET", "monitoring", f"/v1/loops/{loop}/status")
        return dict(json.loads(answer.body)) if answer.status == 200 else {}

    def champion(self, loop: str) -> str:
        """The version that is champion by the registry's word."""
        return str(self.read("registry", f"/v1/loops/{loop}/rollout")["champion"])

    def predicted_by(self, loop: str, field: str) -> str:
        """The version that answers a request."""
        answer = self.tell("POST", "serving", f"/v1/loops/{loop}/predict", {"data": {field: 0.25}})
        return str(json.loads(answer.body).get("version", answer.body[:200]))

    def alerts(self, loop: str) -> set[str]:
        """The names of the loop's open alerts."""
        return {str(row["alert"]) for row in json.loads(self.everloop("alerts", loop, "--json").stdout)}

    def pids(self) -> dict[str, int]:
        """The process of each service."""
        listed = self.services()
        return {name: int(listed[name]["pid"]) for name in SERVICES}


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        return None


def _answer(status: int, headers: Any, body: bytes) -> Answer:
    return Answer(status, {k.lower(): v for k, v in headers.items()}, body.decode(errors="replace"))
