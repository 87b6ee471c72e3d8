"""Ed25519 keys (RFC 8032): files that only their owner can read, ids, and signatures over DSSE's encoding."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as NotBase64
from hashlib import sha256
from pathlib import Path
from typing import Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from everloop_shared.errors import Misconfigured
from everloop_shared.files import create_private_file, read_private_file

MAX_KEY_BYTES = 10_000
ID_LENGTH, SIGNATURE_LENGTH, SIGNATURE_BYTES, KEY_BYTES = 16, 103, 64, 32
"""Characters of a key's id and of a signature as text, `<key id>.<64 bytes in base64url without padding>`."""


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """What a signature is over: DSSE's encoding of a type and a payload, so that no document counts as another kind.

    https://github.com/secure-systems-lab/dsse/blob/master/protocol.md
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def key_id(public: bytes) -> str:
    """The id of a public key (its 32 bytes): the first 16 hexadecimal digits of their SHA-256."""
    return sha256(public).hexdigest()[:ID_LENGTH]


def to_text(data: bytes) -> str:
    """Bytes in base64url without padding (RFC 4648, section 5)."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def to_bytes(text: str) -> bytes:
    """The reverse of `to_text`; raises ValueError, also for text that `to_text` does not write."""
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (NotBase64, UnicodeEncodeError) as e:
        raise ValueError(f"{text[:20]!r} is not base64url") from e
    if to_text(data) != text:
        raise ValueError(f"{text[:20]!r} is not base64url without padding")
    return data


class SigningKey:
    """A private key. It is never shown, logged or sent."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private
        self.public = private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.id = key_id(self.public)

    def __repr__(self) -> str:
        return f"SigningKey({self.id})"

    @classmethod
    def create(cls) -> Self:
        """A new key."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def read(cls, path: Path) -> Self:
        """The key in a PEM file; raises Misconfigured, also where others than the owner can read the file."""
        pem = read_private_file(path, MAX_KEY_BYTES)
        try:
            private = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):  # no detail: it could quote the key
            raise Misconfigured(f"{path} holds no private key in PEM without a password") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise Misconfigured(f"{path} holds a key of another kind; Ed25519 is used: `everloop signing create`")
        return cls(private)

    def write(self, path: Path) -> None:
        """Write a new PEM file (PKCS #8) that only the owner can read; raises OSError where it exists."""
        pem = self._private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        create_private_file(path, pem)

    def sign(self, payload_type: str, payload: bytes) -> str:
        """The signature as text; the same payload gives the same signature."""
        return f"{self.id}.{to_text(self._private.sign(pre_authentication(payload_type, payload)))}"


def is_signed_by(public: bytes, signature: bytes, payload_type: str, payload: bytes) -> bool:
    """Whether this is the signature of the holder of a public key."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, pre_authentication(payload_type, payload))
    except (InvalidSignature, ValueError):
        return False
    return True
