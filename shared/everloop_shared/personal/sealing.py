"""AES-256-GCM (NIST SP 800-38D) over the personal values of a record, and over the keys that seal them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, cast

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from everloop_shared.errors import InputRejected
from everloop_shared.personal.master import KEY_BYTES, MasterKey
from everloop_shared.signing.keys import to_bytes, to_text

NONCE_BYTES, ID_BYTES = 12, 8
ID_LENGTH = 2 * ID_BYTES


class NotSealedHere(InputRejected):
    """A token that was changed, or belongs to another loop or entity."""

    title = "Not a sealed value of this entity"


@dataclass(frozen=True)
class PersonalKey:
    """The key of one loop and entity. Its secret is never shown, logged or sent."""

    id: str
    secret: bytes = field(repr=False)

    @classmethod
    def create(cls) -> PersonalKey:
        """A new key: 256 random bits, and a random id."""
        return cls(os.urandom(ID_BYTES).hex(), os.urandom(KEY_BYTES))

    @classmethod
    def unwrap(cls, master: MasterKey, loop: str, entity: str, key_id: str, wrapped: bytes) -> PersonalKey:
        """The key that `wrap` wrote; raises NotSealedHere where it is another's, or the master key is another."""
        return cls(key_id, _decrypt(master.secret, wrapped, f"{loop}/{entity}/{key_id}"))

    def wrap(self, master: MasterKey, loop: str, entity: str) -> bytes:
        """The key, encrypted by the master key: nonce, ciphertext and tag."""
        return _encrypt(master.secret, self.secret, f"{loop}/{entity}/{self.id}")

    def seal(self, loop: str, entity: str, values: Any) -> str:
        """A token `<key id>.<base64url>` of values that JSON knows. It fits every record of this loop and entity."""
        return f"{self.id}.{to_text(_encrypt(self.secret, msgspec.json.encode(values), f'{loop}/{entity}'))}"

    def unseal(self, loop: str, entity: str, token: str) -> dict[str, Any]:
        """The values of a token of this key; raises NotSealedHere where it was changed or belongs to another."""
        try:
            sealed = to_bytes(token[ID_LENGTH + 1 :])
        except ValueError:
            raise NotSealedHere("the sealed values are no base64url") from None
        return cast(dict[str, Any], msgspec.json.decode(_decrypt(self.secret, sealed, f"{loop}/{entity}")))

    def seal_bytes(self, loop: str, entity: str, data: bytes) -> bytes:
        """Bytes, encrypted: the key's id, then nonce, ciphertext and tag."""
        return self.id.encode() + _encrypt(self.secret, data, f"{loop}/{entity}/bytes")

    def unseal_bytes(self, loop: str, entity: str, sealed: bytes) -> bytes:
        """The bytes; raises NotSealedHere where they were changed, or belong to another."""
        return _decrypt(self.secret, sealed[ID_LENGTH:], f"{loop}/{entity}/bytes")

    def blind(self, digest: str) -> str:
        """16 hexadecimal digits for a digest of values, which say nothing of them without this key (keyed BLAKE2b)."""
        return blake2b(digest.encode(), digest_size=8, key=self.secret, person=b"fingerprint").hexdigest()


def _encrypt(secret: bytes, plain: bytes, about: str) -> bytes:
    nonce = os.urandom(NONCE_BYTES)
    return nonce + AESGCM(secret).encrypt(nonce, plain, about.encode())


def _decrypt(secret: bytes, sealed: bytes, about: str) -> bytes:
    try:
        return AESGCM(secret).decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
    except (InvalidTag, ValueError):
        raise NotSealedHere("the sealed values were changed, or belong to another loop, entity or key") from None
