"""TLS of clients: whom they trust, and what they show, from files that may be replaced while they run."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from everloop_shared.errors import Misconfigured
from everloop_shared.files import Stamp, stamp_of

if TYPE_CHECKING:
    from everloop_shared.settings import Settings  # brings pydantic, which a client that only sends does without

log = logging.getLogger(__name__)
Stamps = tuple[Stamp | None, ...]


class ClientTls(NamedTuple):
    """Whom a client trusts (None: the authorities of the system), and its own certificate, for mutual TLS."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> ClientTls:
        """As EVERLOOP_TLS_CA, EVERLOOP_TLS_CERT and EVERLOOP_TLS_KEY say."""
        return cls(*_paths(environ.get(f"EVERLOOP_TLS_{name}") for name in ("CA", "CERT", "KEY")))

    @classmethod
    def of_files(cls, *files: str | PathLike[str] | None) -> ClientTls | None:
        """Of the authorities, the certificate and its key, as far as they are named; None where none is."""
        return cls(*_paths(files)) if any(files) else None

    def context(self) -> ssl.SSLContext:
        """The context of connections. Raises Misconfigured naming the files."""
        try:
            context = ssl.create_default_context(cafile=self.ca)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key, password=refuse_password)
        except (OSError, ValueError) as e:
            names = ", ".join(str(path) for path in self if path)
            reason = getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e)
            raise Misconfigured(f"EVERLOOP_TLS_CA, EVERLOOP_TLS_CERT: cannot use {names}: {reason}") from e
        return context


def _paths(files: Iterable[str | PathLike[str] | None]) -> Iterator[Path | None]:
    return (Path(file).expanduser() if file else None for file in files)


class ClientContext:
    """Gives the context for a new connection, from files that may be replaced."""

    def __init__(self, tls: ClientTls) -> None:
        self._tls, self._paths = tls, [path for path in tls if path]
        self._stamp = stamps_of(self._paths)
        self._context = tls.context()

    def __call__(self) -> ssl.SSLContext:
        """The context; as before where the files that are there now cannot be used."""
        if (stamp := stamps_of(self._paths)) != self._stamp:
            self._stamp = stamp
            try:
                self._context = self._tls.context()
            except Misconfigured as e:
                log.error("changed TLS files are not used", extra={"reason": e.detail})
        return self._context


def client_tls(settings: Settings) -> ClientTls:
    """How a service calls another: its own certificate is also what it shows as a client."""
    return ClientTls(settings.tls_ca, settings.tls_cert, settings.tls_key)


def stamps_of(paths: Sequence[Path]) -> Stamps:
    """Differs once one of the files is another one."""
    return tuple(map(stamp_of, paths))


def refuse_password() -> str:
    """OpenSSL would ask for the password of an encrypted key on the terminal."""
    raise ValueError("the key is encrypted; store it without a password, readable by its owner only")
