"""A folder of certificates: made once, renewed when they are due, readable by their owner only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from everloop.certs.authority import Issued, canonical, hosts_of, is_signed_by, issue, make_authority, read_issued
from everloop.errors import EverloopError
from everloop_schemas.topology import SERVICES
from everloop_shared.files import replace_file

AUTHORITY = "ca"
AUTHORITY_DAYS = 3_650
LOCAL_HOSTS = ("localhost", "127.0.0.1", "::1")
SERVERS = (*SERVICES, "kafka", "postgres", "keys")
"""Who listens: each certificate is for this machine, for the name itself (as containers are called), and `--host`."""
CLIENTS = ("client", "admin")
"""`client` is the command line, `admin` who may change Kafka's access control lists."""
RENEWED_BEFORE_END = 1 / 3
"""A certificate is renewed once less than this share of its time is left."""


class CertificatesUnusable(EverloopError):
    """The folder holds something that cannot be used, or cannot be written."""


@dataclass(frozen=True)
class Certificate:
    """One certificate of the folder, and what the last call did: `made`, `renewed` or `kept`."""

    name: str
    hosts: tuple[str, ...]
    valid_until: datetime
    done: str
    certificate: Path
    key: Path


def ensure_certificates(
    folder: Path,
    *,
    hosts: Sequence[str] = (),
    clients: Sequence[str] = (),
    days: int = 90,
    renew: bool = False,
    now: datetime | None = None,
) -> list[Certificate]:
    """Make what is missing and renew what is due; all but the authority with `renew`. Raises CertificatesUnusable.

    A certificate is due when less than a third of its time is left, when it lacks one of the hosts, or when another
    authority signed it. Hosts and clients of earlier calls are kept.
    """
    moment = datetime.now(UTC) if now is None else now
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority, first = _ensure_authority(folder, moment)
        found = [first]
        for name in SERVERS:
            wanted = [*LOCAL_HOSTS, name, *hosts]
            found.append(_ensure(folder, authority, name, wanted, moment, days, renew))
        for name in dict.fromkeys((*CLIENTS, *clients, *_other_names(folder))):
            found.append(_ensure(folder, authority, name, [], moment, days, renew))
    except OSError as e:
        raise CertificatesUnusable(f"{e.filename or folder}: {e.strerror}") from e
    return found


def _ensure_authority(folder: Path, now: datetime) -> tuple[Issued, Certificate]:
    existing = _read(folder, AUTHORITY)
    if existing is None:
        made = make_authority(now, AUTHORITY_DAYS)
        return made, _write(folder, AUTHORITY, made, "made")
    if existing.certificate.not_valid_after_utc <= now:
        fix = f"remove {AUTHORITY}.pem and {AUTHORITY}.key, and every certificate is made again"
        raise CertificatesUnusable(f"{folder}: the authority is not valid any more; {fix}")
    return existing, _described(folder, AUTHORITY, existing, "kept")


def _ensure(
    folder: Path, authority: Issued, name: str, hosts: Sequence[str], now: datetime, days: int, renew: bool
) -> Certificate:
    existing = _read(folder, name)
    there = hosts_of(existing.certificate) if existing else []
    wanted = list(dict.fromkeys(map(canonical, [*hosts, *there]))) if hosts else []
    if existing and not renew and not _is_due(existing.certificate, authority.certificate, wanted, now):
        return _described(folder, name, existing, "kept")
    done = "renewed" if existing else "made"
    return _write(folder, name, issue(authority, name, wanted, now, days), done)


def _is_due(certificate: x509.Certificate, authority: x509.Certificate, hosts: Iterable[str], now: datetime) -> bool:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    late = end - now < (end - begin) * RENEWED_BEFORE_END and end < authority.not_valid_after_utc
    return late or set(hosts) != set(hosts_of(certificate)) or not is_signed_by(certificate, authority)


def _other_names(folder: Path) -> list[str]:
    """The clients of earlier calls."""
    names = {file.stem for file in folder.glob("*.pem")} & {file.stem for file in folder.glob("*.key")}
    return sorted(names - {AUTHORITY, *SERVERS, *CLIENTS})


def _read(folder: Path, name: str) -> Issued | None:
    files = folder / f"{name}.pem", folder / f"{name}.key"
    there = [file for file in files if file.exists()]
    if not there:
        return None
    try:
        return read_issued(files[0].read_bytes(), files[1].read_bytes())
    except (ValueError, TypeError, FileNotFoundError) as e:
        fix = f"move {' and '.join(file.name for file in there)} away, and it is made again"
        raise CertificatesUnusable(f"{folder}: {name}.pem and {name}.key cannot be used ({e}); {fix}") from e


def _write(folder: Path, name: str, issued: Issued, done: str) -> Certificate:
    """The key first: a service that reads between the two sees that they do not fit, and tries again."""
    replace_file(folder / f"{name}.key", issued.key_pem)
    replace_file(folder / f"{name}.pem", issued.certificate_pem, 0o644)
    return _described(folder, name, issued, done)


def _described(folder: Path, name: str, issued: Issued, done: str) -> Certificate:
    hosts = tuple(hosts_of(issued.certificate))
    end = issued.certificate.not_valid_after_utc
    return Certificate(name, hosts, end, done, folder / f"{name}.pem", folder / f"{name}.key")
