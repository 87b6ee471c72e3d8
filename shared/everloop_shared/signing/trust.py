"""The keys that are trusted, and for what: a file that is read again when it changes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError, model_validator

from everloop_shared.errors import Misconfigured
from everloop_shared.files import stamp_of
from everloop_shared.signing.errors import SignatureRefused
from everloop_shared.signing.keys import KEY_BYTES, SIGNATURE_BYTES, is_signed_by, key_id, to_bytes
from everloop_shared.signing.uses import Use

log = logging.getLogger(__name__)
MAX_FILE_BYTES, MAX_KEYS = 50_000_000, 1_000
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class TrustedKey(_Strict):
    """A public key (base64url), and the signatures of it that count.

    Those count that say they were made from `not_before` on and before `not_after`, and before `revoked`.
    """

    public_key: Annotated[str, Field(max_length=50)]
    name: Annotated[str, Field(max_length=100)] = ""
    signs: tuple[Use, ...]
    not_before: AwareDatetime | None = None
    not_after: AwareDatetime | None = None
    revoked: AwareDatetime | None = None

    def refuses(self, use: Use, at: datetime) -> str | None:
        """Why a signature for this use, made at this time, does not count."""
        if use not in self.signs:
            return f"may not sign {use}"
        if self.revoked is not None and at >= self.revoked:
            return f"was revoked from {self.revoked.isoformat()} on"
        if self.not_before is not None and at < self.not_before:
            return f"is valid from {self.not_before.isoformat()} on"
        if self.not_after is not None and at >= self.not_after:
            return f"was valid until {self.not_after.isoformat()}"
        return None


class Adopted(_Strict):
    """What counts without a signature, as it was there before: decisions by loop, and artifacts by their SHA-256.

    The decisions of a loop need a signature from the sequence number given here on, and those of other loops always.
    """

    decisions: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    artifacts: frozenset[Sha256] = frozenset()


class TrustFile(_Strict):
    """The file: keys by id, and what was adopted."""

    keys: dict[str, TrustedKey] = Field(default_factory=dict, max_length=MAX_KEYS)
    adopted: Adopted = Adopted()

    @model_validator(mode="after")
    def _check_ids(self) -> Self:
        for name, key in self.keys.items():
            public = to_bytes(key.public_key)
            if len(public) != KEY_BYTES or key_id(public) != name:
                raise ValueError(f"keys.{name[:40]}: the id is not that of its public key")
        return self

    @classmethod
    def read(cls, path: Path) -> Self:
        """The file; raises Misconfigured where it cannot be read or used."""
        try:
            with path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
            if len(data) > MAX_FILE_BYTES:
                raise Misconfigured(f"the trusted keys in {path} have more than {MAX_FILE_BYTES:,} bytes")
            return cls.model_validate_json(data)
        except OSError as e:
            raise Misconfigured(f"the trusted keys cannot be read: {path}: {e.strerror or e}") from e
        except ValidationError as e:
            first = e.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise Misconfigured(f"{path} is no file of trusted keys: {where}: {first['msg']}") from e


class TrustStore:
    """Checks signatures by the keys in a file. A change of the file counts from the next check on.

    A file that cannot be used any more is logged, and the last one that could counts. Raises Misconfigured where the
    first one cannot be used.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = stamp_of(path)
        self._file = TrustFile.read(path)
        self._keys = _public_keys(self._file)

    @property
    def adopted(self) -> Adopted:
        """What counts without a signature."""
        self._reload()
        return self._file.adopted

    def distrusts(self, key: str, use: Use, at: datetime | None = None) -> str | None:
        """Why signatures of a key, by its id, do not count for a use; `at` a time, or now."""
        self._reload()
        known = self._file.keys.get(key)
        if known is None:
            return f"the key {key[:16]} is not among the trusted ones"
        reason = known.refuses(use, at or datetime.now(UTC))
        return reason and f"the key {key} ({known.name}) {reason}"

    def check(self, signature: str | None, payload_type: str, payload: bytes, use: Use, at: datetime) -> None:
        """Raise SignatureRefused, with the reason, unless a trusted key made this signature, by its own word then."""
        if signature is None:
            raise SignatureRefused("it is not signed")
        key, _, text = signature.partition(".")
        if (reason := self.distrusts(key, use, at)) is not None:
            raise SignatureRefused(f"its signature does not count: {reason}")
        try:
            signed = to_bytes(text)
        except ValueError as e:
            raise SignatureRefused("its signature cannot be read") from e
        if len(signed) != SIGNATURE_BYTES or not is_signed_by(self._keys[key], signed, payload_type, payload):
            raise SignatureRefused(f"its signature is not that of key {key} over these bytes")

    def _reload(self) -> None:
        seen = stamp_of(self._path)
        if seen == self._seen:
            return
        self._seen = seen
        try:
            file = TrustFile.read(self._path)
        except Misconfigured as e:
            log.error("trusted keys not read again, those read before count", extra={"reason": e.detail})
            return
        self._file, self._keys = file, _public_keys(file)
        log.info("trusted keys read again", extra={"keys": len(file.keys)})


def _public_keys(file: TrustFile) -> Mapping[str, bytes]:
    return {name: to_bytes(key.public_key) for name, key in file.keys.items()}
