"""A real Airflow on SQLite in a folder of its own, with the provider's wheel, for the integration tests."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integrations.environments import ROOT, Environment
from tests.journeys.installation import Installation
from tests.wheels import build_wheel

from everloop.local.ports import free_port
from everloop_schemas.topology import SERVICES

PROVIDER = ROOT / "deploy" / "airflow"
EXAMPLES = PROVIDER / "airflow" / "providers" / "everloop" / "example_dags"
COMPONENTS = ("api-server", "dag-processor", "scheduler", "triggerer")


@dataclass
class Airflow:
    """Airflow's programs in an environment, with a home and the connection `everloop_default`."""

    python: str
    home: Path
    env: dict[str, str]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def cli(self, *arguments: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run the `airflow` command."""
        return self.run("-m", "airflow", *arguments, timeout=timeout)

    def run(self, *arguments: str, timeout: float = 600) -> subprocess.CompletedProcess[str]:
        """Run Python in the environment."""
        command = [self.python, *arguments]
        return subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=timeout, check=False)

    def read(self, *arguments: str) -> Any:
        """The JSON that a command of `airflow` prints; None where it fails."""
        done = self.cli(*arguments, "-o", "json")
        start = done.stdout.find("[")
        return json.loads(done.stdout[start:]) if done.returncode == 0 and start >= 0 else None

    def start(self, component: str) -> None:
        """Start a component; its log is in the home."""
        with (self.home / f"{component}.log").open("ab") as log:
            self.running[component] = subprocess.Popen(
                [self.python, "-m", "airflow", component],
                env=self.env,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def kill(self, component: str) -> None:
        """End a component and what it started, as a lost machine does."""
        process = self.running.pop(component)
        os.killpg(process.pid, 9)
        process.wait()

    @contextmanager
    def components(self) -> Iterator[None]:
        """Scheduler, triggerer, processor of DAGs and API server, until the block ends."""
        for component in COMPONENTS:
            self.start(component)
        try:
            yield
        finally:
            for component in list(self.running):
                self.kill(component)


def install_wheels(airflow: Environment, folder: Path) -> None:
    """Build the wheels of the project and of the provider, and install them as users do, unless they are there."""
    wheels = [build_wheel(source, folder / name) for name, source in (("project", ROOT), ("provider", PROVIDER))]
    built = hashlib.sha256(b"".join(wheel.read_bytes() for wheel in wheels)).hexdigest()
    installed = Path(airflow.python).parents[1] / "wheels.sha256"
    if installed.exists() and installed.read_text() == built:
        return
    uv = [str(Path(sys.executable).with_name("uv")), "pip", "install", "--quiet", "--no-deps", "--reinstall"]
    subprocess.run([*uv, "--python", airflow.python, *map(str, wheels)], check=True, capture_output=True, timeout=300)
    installed.write_text(built)


def connection(installation: Installation) -> dict[str, Any]:
    """The connection to an installation on this machine, with the token that it asks for."""
    found = installation.services()
    urls = {f"{name}_url": found[name]["url"] for name in SERVICES}
    return {"conn_type": "everloop", "password": Path(found["token"]).read_text().strip(), "extra": urls}


def make_home(airflow: Environment, home: Path, installation: Installation) -> Airflow:
    """A home with the example DAGs and a migrated database."""
    home.mkdir()
    (home / "dags").mkdir()
    port, logs, triggers = free_port(), free_port(), free_port()
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("EVERLOOP_", "PYTHON"))}
    settings = {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": "2",
        "AIRFLOW__CORE__TEST_CONNECTION": "Enabled",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"http://127.0.0.1:{port}/execution/",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__API_AUTH__JWT_SECRET": os.urandom(32).hex(),
        "AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT": str(logs),
        "AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT": str(triggers),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
        "AIRFLOW_CONN_EVERLOOP_DEFAULT": json.dumps(connection(installation)),
        "EXAMPLE_LOOP": "churn",
        "EXAMPLE_FOLDER": str(home / "files"),
        "EXAMPLE_POLL": "1",
    }
    (home / "files").mkdir()
    made = Airflow(airflow.python, home, {**outside, **settings})
    done = made.cli("db", "migrate")
    assert done.returncode == 0, done.stderr
    return made
