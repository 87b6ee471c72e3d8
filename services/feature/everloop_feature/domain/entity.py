"""What is remembered of an entity: its windows, its last vector, and the ids of its latest observations."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Literal

import msgspec
from msgspec.structs import replace

from everloop_features import FeaturePlan, State
from everloop_schemas.envelope import Fields, Scalar

ID_BYTES = 8
"""Of an id, this much of its hash is stored: a new id collides with one of 20,000 stored ones once in 10^15 times."""
FINGERPRINT_BYTES = 2
"""Of an observation's fingerprint, this much is stored: other content goes unnoticed once in 65,536 times."""
ENTRY_BYTES = ID_BYTES + FINGERPRINT_BYTES
NO_FINGERPRINT = bytes(FINGERPRINT_BYTES)
USED_WITHIN_S = 600
"""So the place in the order of use changes only with the first of the uses within ten minutes."""
PAGE_IDS = 256
"""Ids stored with the entity's state. A full page of them is stored under a key of its own, so each write is small."""

IdMatch = Literal["new", "same", "other"]
"""Whether an id is new, came with the same observation before, or with another one."""


@lru_cache(maxsize=16)
def id_hash(event_id: str) -> bytes:
    """The stored part of an id's hash; an observation needs that of its id twice."""
    return blake2b(event_id.encode(), digest_size=ID_BYTES).digest()


def match_id(page: bytes, event_id: str, fingerprint: bytes) -> IdMatch:
    """Whether a page of ids has this id, and with the same fingerprint.

    Full pages of earlier releases have no fingerprints and are shorter. An entry without a fingerprint
    (`NO_FINGERPRINT`) matches every observation.
    """
    width = ID_BYTES if len(page) == PAGE_IDS * ID_BYTES else ENTRY_BYTES
    wanted, start = id_hash(event_id), 0
    while (at := page.find(wanted, start)) >= 0:
        if at % width == 0:
            stored = page[at + ID_BYTES : at + width]
            return "same" if stored in (b"", NO_FINGERPRINT, fingerprint) else "other"
        start = at + 1
    return "new"


def add_empty_fingerprints(ids: bytes) -> bytes:
    """A page of ids of a release without fingerprints, in the present form."""
    return b"".join(ids[i : i + ID_BYTES] + NO_FINGERPRINT for i in range(0, len(ids), ID_BYTES))


class Entity(msgspec.Struct, frozen=True, array_like=True):
    """One entity of a loop: its windows, its last vector, and its latest page of ids, newest last.

    `pages` counts the full pages that are stored apart. `life` is the loop lifetime in which this was stored, named by
    the revision with which it began: in a later lifetime the entity is new. `used` is when it was used last, in
    seconds of the broker's time and as exactly as `USED_WITHIN_S`.

    In loops with personal fields it is stored sealed: `state` is empty, as it is in the token `sealed_state`, and
    `features` lacks those in the token `sealed_features`.
    """

    applied: int = 0
    state: State = {}
    features: Fields = {}
    ids: bytes = b""
    pages: int = 0
    life: int = 1
    used: int = 0
    sealed_state: str | None = None
    sealed_features: str | None = None

    @property
    def page_is_full(self) -> bool:
        """Whether the page has to be stored apart before the next observation."""
        return len(self.ids) >= PAGE_IDS * ENTRY_BYTES

    def is_sealed_with(self, key_id: str) -> bool:
        """Whether what is personal of it is in tokens of this key."""
        tokens = [token for token in (self.sealed_state, self.sealed_features) if token]
        return bool(tokens) and all(token.startswith(f"{key_id}.") for token in tokens)

    def start_page(self) -> Entity:
        """The entity with an empty page, once the full one is stored apart."""
        return replace(self, ids=b"", pages=self.pages + 1)

    def observe(
        self,
        plan: FeaturePlan,
        event_id: str,
        fields: Mapping[str, Scalar | None],
        time: datetime,
        received: datetime | None = None,
        fingerprint: bytes = NO_FINGERPRINT,
    ) -> Entity:
        """The entity after an observation made at `time`; `fingerprint` is the start of the observation's digest."""
        state, features = plan.apply(self.state, fields, time, received)
        ids = self.ids + id_hash(event_id) + fingerprint
        return Entity(self.applied + 1, state, features, ids, self.pages, self.life, self.used)

    def apply_label(self, plan: FeaturePlan, label: Scalar, observed: datetime, correction: int) -> Entity:
        """The entity with a label of its own, for `lag: label`; unchanged where a newer one is known."""
        return replace(self, state=plan.with_label(self.state, label, observed, correction))

    def with_state(self, state: State, token: str | None = None) -> Entity:
        """The entity with its state opened, or empty beside the token that has it."""
        return replace(self, state=state, sealed_state=token)

    def with_features(self, features: Fields, token: str | None = None) -> Entity:
        """The entity with all of its features, or with some beside the token that has the others."""
        return replace(self, features=features, sealed_features=token)

    def use(self, time_s: int) -> Entity:
        """The entity as used now."""
        return replace(self, used=time_s) if time_s >= self.used + USED_WITHIN_S else self

    def dump(self) -> bytes:
        """The stored value: its fields in MessagePack."""
        return _encoder.encode(self)

    @classmethod
    def load(cls, value: bytes | None) -> Entity:
        """The entity from its stored value; a new one from None."""
        if value is None:
            return cls()
        return _load_json_form(value) if value.startswith(b"[") else _decoder.decode(value)


class EntityUse(msgspec.Struct, frozen=True, array_like=True):
    """What the order of use is made of, of a stored entity; the rest is not decoded, as this is read of millions."""

    applied: msgspec.Raw = msgspec.Raw()
    state: msgspec.Raw = msgspec.Raw()
    features: msgspec.Raw = msgspec.Raw()
    ids: msgspec.Raw = msgspec.Raw()
    pages: int = 0
    life: int = 1
    used: int = 0

    @classmethod
    def load(cls, value: bytes) -> EntityUse:
        """From the entity's stored value."""
        if not value.startswith(b"["):
            return _use_decoder.decode(value)
        entity = _load_json_form(value)
        return cls(pages=entity.pages, life=entity.life, used=entity.used)


_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Entity)
_use_decoder = msgspec.msgpack.Decoder(EntityUse)


def _load_json_form(value: bytes) -> Entity:
    """An entity in the form of releases that stored JSON, the first of them without a lifetime and fingerprints."""
    applied, state, features, ids, pages, *rest = json.loads(value)
    page = b64decode(ids)
    return Entity(applied, state, features, page if len(rest) > 1 else add_empty_fingerprints(page), pages, *rest[:1])
