"""TLS of a service's endpoints, from files that may be replaced while it runs."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import NamedTuple

from everloop_shared.errors import Misconfigured
from everloop_shared.metrics import TLS_VALID_UNTIL
from everloop_shared.settings import Settings
from everloop_shared.tls import refuse_password, stamps_of

log = logging.getLogger(__name__)
ALPN = ["http/1.1"]


class TlsFiles(NamedTuple):
    """What the files held when they were read: PEM; `client_ca` is None where clients need no certificate."""

    certificate: bytes
    key: bytes
    client_ca: bytes | None


class ServerTls:
    """The TLS of one endpoint: TLS 1.2 or later, by certificate, key and, for mutual TLS, the authority of clients.

    `refresh` reads the files again when they have changed. Files that cannot be used, such as a key that does not
    belong to its certificate yet, are reported once, and what was there stays in use.
    """

    def __init__(self, service: str, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._service = service
        self._paths = [certificate, key, *([client_ca] if client_ca else [])]
        self._stamp = stamps_of(self._paths)
        self.files, self.context = self._read()

    def refresh(self) -> bool:
        """Whether the files have changed, and are in use now. Connections that are open keep what they agreed on."""
        stamp = stamps_of(self._paths)
        if stamp == self._stamp:
            return False
        self._stamp = stamp
        try:
            self.files, self.context = self._read()
        except Misconfigured as e:
            log.error("changed TLS files are not used", extra={"reason": e.detail})
            return False
        log.info("TLS files read again", extra={"files": [str(path) for path in self._paths]})
        return True

    def _read(self) -> tuple[TlsFiles, ssl.SSLContext]:
        from cryptography import x509  # takes 6 MB, and services without TLS do without

        names = ", ".join(map(str, self._paths))
        try:
            certificate, key, *client_ca = [path.read_bytes() for path in self._paths]
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_alpn_protocols(ALPN)
            context.load_cert_chain(self._paths[0], self._paths[1], password=refuse_password)
            if client_ca:
                context.load_verify_locations(cadata=client_ca[0].decode())
                context.verify_mode = ssl.CERT_REQUIRED
            end = x509.load_pem_x509_certificate(certificate).not_valid_after_utc
        except (OSError, ValueError) as e:  # ssl.SSLError is an OSError
            reason = getattr(e, "reason", None) or getattr(e, "strerror", None) or str(e)
            raise Misconfigured(f"EVERLOOP_TLS_CERT, EVERLOOP_TLS_KEY: cannot use {names}: {reason}") from e
        TLS_VALID_UNTIL.labels(self._service).set(end.timestamp())
        return TlsFiles(certificate, key, client_ca[0] if client_ca else None), context


def server_tls(service: str, settings: Settings) -> ServerTls | None:
    """The TLS that the settings ask for, None for plain connections. Raises Misconfigured with the variable."""
    if settings.tls_cert is None and settings.tls_key is None:
        if settings.tls_client_ca is not None:
            raise Misconfigured("EVERLOOP_TLS_CLIENT_CA needs EVERLOOP_TLS_CERT and EVERLOOP_TLS_KEY")
        return None
    if settings.tls_cert is None or settings.tls_key is None:
        raise Misconfigured("EVERLOOP_TLS_CERT and EVERLOOP_TLS_KEY belong together; one is missing")
    return ServerTls(service, settings.tls_cert, settings.tls_key, settings.tls_client_ca)
