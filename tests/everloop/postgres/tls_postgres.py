"""A PostgreSQL of the system's that speaks TLS; the one of the wheel is built without."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from everloop.local.ports import HOST, free_port

HBA = "local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256\n"


@dataclass(frozen=True)
class TlsPostgres:
    """Its TCP port takes TLS and passwords only; its socket lets the superuser in."""

    port: int
    folder: Path

    @property
    def socket_url(self) -> str:
        """What the superuser connects to."""
        return f"postgresql://postgres@/postgres?host={self.folder}&port={self.port}"


@contextmanager
def tls_postgres(certs: Path) -> Iterator[TlsPostgres]:
    """A server with the certificate `postgres` of this folder; what it wrote is deleted at the end."""
    binaries = max(Path("/usr/lib/postgresql").glob("*/bin/initdb"), default=None)
    if binaries is None:
        pytest.skip("no PostgreSQL with TLS: apt-get install postgresql")
    folder, port = Path(tempfile.mkdtemp(prefix="everloop-pg-")), free_port()  # pytest's are too long for a socket
    try:
        _run(folder, str(binaries), "-D", str(folder / "data"), "-U", "postgres", "-A", "trust", "--no-sync")
        for name, content in (
            ("server.pem", (certs / "postgres.pem").read_text()),
            ("server.key", (certs / "postgres.key").read_text()),
            ("hba.conf", HBA),
        ):
            (folder / name).write_text(content)
            (folder / name).chmod(0o600)
        files = {"ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "hba_file": "hba.conf"}
        options = f"-h {HOST} -p {port} -k {folder} -c fsync=off -c ssl=on " + " ".join(
            f"-c {name}={folder / file}" for name, file in files.items()
        )
        control, log = str(binaries.with_name("pg_ctl")), str(folder / "log")
        _run(folder, control, "-w", "-D", str(folder / "data"), "-o", options, "-l", log, "start")
        try:
            yield TlsPostgres(port, folder)
        finally:
            _run(folder, control, "-w", "-D", str(folder / "data"), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder)


def _run(folder: Path, *command: str) -> None:
    """Run it; as `postgres` where the tests are root's, whom PostgreSQL refuses to run as."""
    user = None
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        for path in (folder, *folder.glob("*.*")):
            os.chown(path, user.pw_uid, user.pw_gid)
    log = folder / "run.log"
    with log.open("a") as out:
        done = subprocess.run(
            command,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            timeout=60,
            check=False,
            cwd=folder,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
        )
    assert done.returncode == 0, log.read_text()[-2000:]
