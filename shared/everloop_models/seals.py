"""Seals: signatures over artifacts, checked before anything of an artifact is loaded.

What is signed is an in-toto statement (https://in-toto.io/Statement/v1) with the predicate of OpenSSF's model signing
(https://model_signing/signature/v1.0) about one file, in DSSE's encoding. It follows from the artifact's name, its
SHA-256 and the time, so that records carry the seal alone: `<seconds since 1970>.<key id>.<Ed25519 signature>`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256 as sha256_of
from typing import TYPE_CHECKING, Protocol, Self

from everloop_models.errors import ArtifactUntrusted
from everloop_schemas.envelope import utc_time
from everloop_shared.clock import system_clock
from everloop_shared.settings import Settings
from everloop_shared.signing import signer_of, trust_of
from everloop_shared.signing.errors import SignatureRefused

if TYPE_CHECKING:
    from everloop_shared.signing.keys import SigningKey
    from everloop_shared.signing.trust import TrustStore

PAYLOAD = "application/vnd.in-toto+json"
LATEST_S = 253_402_300_799
"""The last second that a datetime can represent."""


class Sealed(Protocol):
    """What a record says of an artifact that somebody vouches for."""

    @property
    def sha256(self) -> str | None: ...
    @property
    def seal(self) -> str | None: ...


def statement(name: str, sha256: str, made: datetime) -> bytes:
    """The statement that whoever seals makes about the artifact `name`, in canonical JSON (RFC 8785).

    As in OpenSSF's format, the subject's digest is the SHA-256 over the digests of all files, here of one.
    """
    folder, _, file = name.rpartition("/")
    body = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {
                "name": folder,
                "digest": {"sha256": sha256_of(bytes.fromhex(sha256)).hexdigest()},
                "annotations": {"made": f"{made.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"},
            }
        ],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": [],
            },
            "resources": [{"name": file, "algorithm": "sha256", "digest": sha256}],
        },
    }
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Seals:
    """Makes seals where it has a key, and checks them where it has trusted keys."""

    def __init__(
        self,
        signer: SigningKey | None = None,
        trust: TrustStore | None = None,
        clock: Callable[[], datetime] = system_clock,
    ) -> None:
        self._signer, self._trust, self._clock = signer, trust, clock

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of EVERLOOP_SIGNING_KEY and EVERLOOP_TRUSTED_KEYS. Raises Misconfigured."""
        return cls(signer_of(settings), trust_of(settings))

    def make(self, name: str, sha256: str) -> str | None:
        """The seal of an artifact, by its name in the store; None without a key."""
        if self._signer is None:
            return None
        seconds = int(self._clock().timestamp())
        return f"{seconds}.{self._signer.sign(PAYLOAD, statement(name, sha256, utc_time(seconds)))}"

    def check(self, name: str, artifact: Sealed) -> None:
        """Raise ArtifactUntrusted where keys are trusted and none of them has sealed this artifact under this name.

        An artifact that was adopted, by its SHA-256, needs no seal.
        """
        trust, sha256 = self._trust, artifact.sha256 or ""
        if trust is None or sha256 in trust.adopted.artifacts:
            return
        try:
            seconds, signature = _parse(artifact.seal)
            trust.check(signature, PAYLOAD, statement(name, sha256, utc_time(seconds)), "artifacts", utc_time(seconds))
        except (SignatureRefused, ValueError) as e:
            reason = e.detail if isinstance(e, SignatureRefused) else "its signature cannot be read"
            raise ArtifactUntrusted(f"{reason}: not loaded") from e


UNSEALED = Seals()
"""Makes no seals and requires none."""


def _parse(seal: str | None) -> tuple[int, str]:
    if seal is None:
        raise SignatureRefused("it is not signed")
    text, _, signature = seal.partition(".")
    if not text.isdecimal() or len(text) > len(str(LATEST_S)) or int(text) > LATEST_S:
        raise ValueError(seal)
    return int(text), signature
