"""The TLS of Kafka's clients, from files that may be replaced while they run."""

from __future__ import annotations

import logging
import ssl
from pathlib import Path
from typing import Any, NamedTuple, Self

from everloop_shared.tls import refuse_password, stamps_of

log = logging.getLogger(__name__)


class TlsFiles(NamedTuple):
    """Whom a client trusts (None: the authorities of the system), and its own certificate, as PEM."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    password: str | None = None

    def load(self, context: ssl.SSLContext) -> None:
        """Load them. Raises OSError (ssl.SSLError is one) or ValueError."""
        if self.ca:
            context.load_verify_locations(self.ca)
        if self.certificate and self.key:
            context.load_cert_chain(self.certificate, self.key, self.password or refuse_password)


class RenewedContext(ssl.SSLContext):
    """A client's context that looks at its files before each connection, and loads them again once they have changed.

    aiokafka and Faust keep the context that they were given; a connection begins with `wrap_bio`. Open connections keep
    what they agreed on, so nothing is sent twice or lost. Files that cannot be used, such as a key that does not
    belong to its certificate yet, are reported once, and what was loaded before stays in use. Raises OSError or
    ValueError for the first ones. Authorities are added: one that was taken away is forgotten at the next start.
    """

    def __new__(cls, files: TlsFiles) -> Self:
        """A context of clients, which verify the server and its name."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._stamps = self._look()
        self.minimum_version = ssl.TLSVersion.TLSv1_2
        usual = ssl.create_default_context(cafile=files.ca)
        self.verify_flags = usual.verify_flags  # stricter from Python 3.13 on
        if files.ca is None:
            self.load_default_certs()
        files.load(self)

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        """Begin a connection."""
        self._refresh()
        return super().wrap_bio(*args, **options)

    def _look(self) -> Any:
        return stamps_of([file for file in self._files[:3] if isinstance(file, Path)])

    def _refresh(self) -> None:
        stamps = self._look()
        if stamps == self._stamps:
            return
        self._stamps = stamps
        try:
            self._files.load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # so that files that do not fit change nothing
            self._files.load(self)
        except (OSError, ValueError) as e:
            log.error("changed TLS files of Kafka are not used", extra={"reason": str(e)})
            return
        log.info("TLS files of Kafka read again", extra={"files": [str(f) for f in self._files[:3] if f]})
