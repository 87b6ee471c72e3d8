"""The files of each container of a secured installation, as a tar: `CONTAINER/FILE` with its owner and its mode."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from everloop.local.personal import OPENING
from everloop.postgres.roles import OWNERS, PERSONAL, role_of, roles_sql, scram_verifier
from everloop.secured.folder import CERTIFICATES, DATABASE, SIGNERS, SIGNING, SUPERUSERS, TOKENS
from everloop_schemas.topology import SERVICES

USER = 10_001
"""The user of the services' containers, and a group of the others (compose's `group_add`)."""
WHERE = Path("/run/everloop")
"""Where each container finds its files."""
MASTER_KEY = "masterkey"
"""The container that makes the master key of personal fields, and replaces it."""


class ContainerFile(NamedTuple):
    """One file of one container."""

    container: str
    name: str
    content: bytes


def container_files(folder: Path) -> Iterator[ContainerFile]:
    """All files: each container gets its own secrets and no others. Raises OSError."""
    for container in (*SERVICES, "acls"):
        who = "admin" if container == "acls" else container
        yield from _certificates(folder, container, who)
        yield ContainerFile(container, "kafka.json", json.dumps(_kafka_settings()).encode())
    for service in SIGNERS:
        yield ContainerFile(service, "signing.key", (folder / SIGNING / f"{service}.key").read_bytes())
    for service in OWNERS:
        yield ContainerFile(service, "database.pgpass", (folder / DATABASE / f"{service}.pgpass").read_bytes())
        yield ContainerFile("postgres", f"{service}.sql", _role(folder, service).encode())
    yield from _personal_keys(folder)
    for service in ("serving", "monitoring"):
        yield ContainerFile(service, "token", (folder / TOKENS / service).read_bytes())
    yield ContainerFile("prometheus", "token", (folder / TOKENS / "prometheus").read_bytes().strip())
    yield from _certificates(folder, "prometheus", "prometheus")
    for server, superuser in SUPERUSERS.items():
        yield from _certificates(folder, server, server)
        yield ContainerFile(server, "password", _password(folder, superuser).encode())
    key, certificate = [(folder / CERTIFICATES / f"kafka.{kind}").read_bytes() for kind in ("key", "pem")]
    yield ContainerFile("kafka", "keystore.pem", key + certificate)
    yield ContainerFile("kafka", "ca.pem", (folder / CERTIFICATES / "ca.pem").read_bytes())


def write_tar(folder: Path, out: BinaryIO) -> None:
    """Write them. Those of our images belong to their user; those of others are root's, readable by the group."""
    with tarfile.open(fileobj=out, mode="w|") as tar:
        for file in container_files(folder):
            ours = file.container in (*SERVICES, "acls", MASTER_KEY)
            entry = tarfile.TarInfo(f"{file.container}/{file.name}")
            entry.size, entry.mode = len(file.content), 0o400 if ours else 0o440
            entry.uid, entry.gid = USER if ours else 0, USER
            tar.addfile(entry, io.BytesIO(file.content))


def _certificates(folder: Path, container: str, who: str) -> Iterator[ContainerFile]:
    for name, source in (("tls.key", f"{who}.key"), ("tls.pem", f"{who}.pem"), ("ca.pem", "ca.pem")):
        yield ContainerFile(container, name, (folder / CERTIFICATES / source).read_bytes())


def _personal_keys(folder: Path) -> Iterator[ContainerFile]:
    for container in (*OPENING, MASTER_KEY):
        yield ContainerFile(container, "personal.pgpass", (folder / DATABASE / f"{PERSONAL}.pgpass").read_bytes())
    yield ContainerFile(MASTER_KEY, "ca.pem", (folder / CERTIFICATES / "ca.pem").read_bytes())
    yield ContainerFile("keys", f"{PERSONAL}.sql", _role(folder, PERSONAL).encode())


def _kafka_settings() -> dict[str, str]:
    files = {"cafile": "ca.pem", "certfile": "tls.pem", "keyfile": "tls.key"}
    return {"security_protocol": "SSL", **{f"ssl_{name}": str(WHERE / file) for name, file in files.items()}}


def _role(folder: Path, service: str) -> str:
    return roles_sql(service, role_of(service), scram_verifier(_password(folder, service)))


def _password(folder: Path, name: str) -> str:
    return (folder / DATABASE / f"{name}.pgpass").read_text().strip().rpartition(":")[2]
