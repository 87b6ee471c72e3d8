"""A mail server that takes mails, with TLS and logins, as one that alerts are sent through."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Certificate:
    """A certificate for `HOST` that signs itself, and its key, as files."""

    certificate: Path
    key: Path


@dataclass
class SmtpReceiver:
    """What came: mails, the addresses of each, and the names that logged in with whether the password was right.

    `logins` are the passwords, `refused` the addresses that are not taken, `leave` the answer to QUIT.
    """

    port: int = 0
    logins: Mapping[str, str] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    leave: str = "221 bye"
    mails: list[EmailMessage] = field(default_factory=list)
    addresses: list[list[str]] = field(default_factory=list)
    tried: list[tuple[str, bool]] = field(default_factory=list)
    encrypted: list[bool] = field(default_factory=list)

    def authenticate(self, _: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        """Whether a login is one of `logins`."""
        assert isinstance(data, LoginPassword)
        is_right = self.logins.get(data.login.decode()) == data.password.decode()
        self.tried.append((data.login.decode(), is_right))
        return AuthResult(success=is_right, handled=False)

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        """Take an address, unless it is one of `refused`."""
        if address in self.refused:
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 ok"

    async def handle_QUIT(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take leave."""
        return self.leave

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        assert server.transport is not None
        self.encrypted.append(server.transport.get_extra_info("sslcontext") is not None)
        self.addresses.append(list(envelope.rcpt_tos))
        self.mails.append(mail)
        return "250 taken"


def make_certificate(folder: Path) -> Certificate:
    """A fresh certificate in a folder."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail of a test")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    files = Certificate(folder / "certificate.pem", folder / "key.pem")
    files.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files.key.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@asynccontextmanager
async def smtp_receiver(
    certificate: Certificate | None = None, *, implicit: bool = False, logins: Mapping[str, str] | None = None
) -> AsyncIterator[SmtpReceiver]:
    """A server on a free port until the block ends.

    With a certificate it takes mails by TLS alone: after STARTTLS, or from the first byte where `implicit`. With
    logins, after one of them alone.
    """
    receiver = SmtpReceiver(logins=logins or {})
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.certificate, certificate.key)

    def serve() -> SMTP:
        return SMTP(
            receiver,
            hostname="mail.example",
            tls_context=None if implicit else context,
            require_starttls=context is not None and not implicit,
            authenticator=receiver.authenticate,
            auth_required=bool(logins) and not implicit,
            auth_require_tls=not implicit,  # it knows of TLS by STARTTLS alone
        )

    server = await asyncio.get_running_loop().create_server(serve, HOST, 0, ssl=context if implicit else None)
    async with server:
        receiver.port = server.sockets[0].getsockname()[1]
        yield receiver
