"""The folder of a secured installation: made once, kept at every further call, readable by its owner only."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from everloop.certs.folder import ensure_certificates
from everloop.errors import EverloopError
from everloop.local.discovery import FILE, write_json
from everloop.local.keys import LETTER_ROLES, ensure_key
from everloop.local.ports import HOST
from everloop.local.secured_kafka import KafkaSecurity
from everloop.postgres.roles import OWNERS, PERSONAL, ensure_password, role_of
from everloop_schemas.topology import KAFKA_PORT, SERVICES
from everloop_shared.files import replace_file
from everloop_shared.signing.keys import SigningKey, to_text
from everloop_shared.signing.trust import TrustedKey, TrustFile
from everloop_shared.signing.uses import Use

READABLE = 0o644
"""Hashes of keys, public keys and certificates: the services read them as another user, and they hold no secret."""
CERTIFICATES, SIGNING, DATABASE, TOKENS, SHARED = "certs", "signing", "postgres", "tokens", "shared"
KEYS, TRUSTED, MADE = "keys.json", "trusted.json", "compose.env"
SIGNERS: Mapping[str, tuple[Use, ...]] = {
    "training": ("artifacts", "snapshots", "backups"),
    "registry": ("artifacts", "decisions"),
}
CALLERS: Sequence[tuple[str, str, tuple[str, ...], Literal["key", "service"]]] = (
    ("admin", "admin", ("admin",), "key"),
    ("serving", "everloop/serving", ("viewer",), "service"),
    ("prometheus", "everloop/prometheus", ("viewer",), "service"),
    ("monitoring", "everloop/monitoring", LETTER_ROLES, "service"),
)
"""The token's file, its subject, roles and kind."""
SUPERUSERS = {"postgres": "everloop", "keys": "keys"}
"""By container of a PostgreSQL, the file with its superuser's password."""


class FolderUnusable(EverloopError):
    """The folder holds something that cannot be used, or cannot be written."""


def ensure_secured(folder: Path, hosts: Sequence[str] = ()) -> list[str]:
    """Make what is missing, renew certificates that are due, and say what was done. Raises EverloopError.

    What is there stays: keys that were revoked or changed, trusted keys, passwords. `hosts` are further names of the
    services, for their certificates.
    """
    before = _files(folder)
    try:
        for name, mode in ((".", 0o700), (SHARED, 0o755), (SIGNING, 0o700), (TOKENS, 0o700)):
            (folder / name).mkdir(mode=mode, parents=True, exist_ok=True)
            (folder / name).chmod(mode)
        made = ensure_certificates(folder / CERTIFICATES, hosts=hosts, clients=["prometheus"])
        KafkaSecurity(folder / CERTIFICATES).write_client_files()
        replace_file(folder / SHARED / "ca.pem", (folder / CERTIFICATES / "ca.pem").read_bytes(), READABLE)
        _ensure_tokens(folder)
        _ensure_signers(folder)
        for service in (*OWNERS, PERSONAL):
            ensure_password(folder / DATABASE, service, role_of(service))
        for server in SUPERUSERS.values():
            ensure_password(folder / DATABASE, server, "everloop")
        write_json(folder / FILE, _addresses(folder))
        replace_file(folder / MADE, b"# Made by `everloop secure`: compose starts nothing of the profile without it.\n")
    except OSError as e:
        raise FolderUnusable(f"{e.filename or folder}: {e.strerror}") from e
    renewed = [f"{each.certificate} is renewed" for each in made if each.done == "renewed"]
    return [*renewed, *(f"{file} is made" for file in sorted(_files(folder) - before))]


def _ensure_tokens(folder: Path) -> None:
    keys = folder / SHARED / KEYS
    for name, subject, roles, kind in CALLERS:
        ensure_key(keys, folder / TOKENS / name, subject, roles, kind)
    keys.chmod(READABLE)


def _ensure_signers(folder: Path) -> None:
    trusted = folder / SHARED / TRUSTED
    file = TrustFile.read(trusted) if trusted.exists() else TrustFile()
    keys = dict(file.keys)
    for name, uses in SIGNERS.items():
        path = folder / SIGNING / f"{name}.key"
        if not path.exists():
            SigningKey.create().write(path)
        key = SigningKey.read(path)
        keys.setdefault(key.id, TrustedKey(public_key=to_text(key.public), name=name, signs=uses))
    if keys.keys() != file.keys.keys() or not trusted.exists():
        changed = file.model_copy(update={"keys": keys})
        body = changed.model_dump_json(indent=1, exclude_defaults=True)
        replace_file(trusted, f"{body}\n".encode(), READABLE)


def _addresses(folder: Path) -> dict[str, object]:
    """What the command finds by `--data FOLDER`, where compose publishes its ports on this machine."""
    port = {name: os.environ.get(each.variable("port")) or each.port for name, each in SERVICES.items()}
    certificates = folder / CERTIFICATES
    kafka = os.environ.get("EVERLOOP_KAFKA_PORT") or KAFKA_PORT
    return {
        **{name: {"url": f"https://{HOST}:{port[name]}"} for name in SERVICES},
        "kafka": {"bootstrap": f"{HOST}:{kafka}", "config": str(certificates / "admin.kafka.json")},
        "tls": {
            "ca": str(certificates / "ca.pem"),
            "certificate": str(certificates / "client.pem"),
            "key": str(certificates / "client.key"),
        },
        "token": str(folder / TOKENS / "admin"),
    }


def _files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")}
