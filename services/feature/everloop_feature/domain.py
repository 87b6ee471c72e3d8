"""Pure rules: what an entity remembers."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import blake2b
from typing import Literal

from everloop_features import FeaturePlan, State
from everloop_schemas.envelope import Fields, Scalar

ID_BYTES = 8
"""An id is remembered by this much of its hash: a new one is taken for one of 20,000 once in 10^15 times."""
MARK_BYTES = 2
"""And what was said under it by this much of its fingerprint: other data is taken for the same once in 65,536 times."""
ENTRY_BYTES = ID_BYTES + MARK_BYTES
UNMARKED = bytes(MARK_BYTES)
Seen = Literal["new", "same", "other"]
PAGE_IDS = 256
"""Ids that stay with the entity's state; a full page of them is put aside, so that each write stays small."""


def dumps(value: object) -> bytes:
    """Compact JSON, of what is finite."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def id_hash(event_id: str) -> bytes:
    """What is remembered of an id."""
    return blake2b(event_id.encode(), digest_size=ID_BYTES).digest()


def seen_under(page: bytes, event_id: str, mark: bytes) -> Seen:
    """Whether an id is on a page, and with the same mark of what was said under it.

    A full page of before there were marks is shorter. Without a mark (`UNMARKED`) what was said counts as the same.
    """
    width = ID_BYTES if len(page) == PAGE_IDS * ID_BYTES else ENTRY_BYTES
    wanted, start = id_hash(event_id), 0
    while (at := page.find(wanted, start)) >= 0:
        if at % width == 0:
            marked = page[at + ID_BYTES : at + width]
            return "same" if marked in (b"", UNMARKED, mark) else "other"
        start = at + 1
    return "new"


def marked(ids: bytes) -> bytes:
    """A page of ids of before there were marks, as one of today."""
    return b"".join(ids[i : i + ID_BYTES] + UNMARKED for i in range(0, len(ids), ID_BYTES))


@dataclass(frozen=True)
class Entity:
    """One entity of a loop: its windows, its last vector, and the page of ids it has seen last, newest last.

    `pages` counts the full pages put aside. `life` is that of the loop, as the revision it began with: in another,
    the entity is new.
    """

    applied: int = 0
    state: State = field(default_factory=dict)
    features: Fields = field(default_factory=dict)
    ids: bytes = b""
    pages: int = 0
    life: int = 1

    @property
    def page_is_full(self) -> bool:
        """Whether the page is to be put aside before the next observation."""
        return len(self.ids) >= PAGE_IDS * ENTRY_BYTES

    def turn_page(self) -> Entity:
        """With an empty page."""
        return replace(self, ids=b"", pages=self.pages + 1)

    def observe(
        self,
        plan: FeaturePlan,
        event_id: str,
        fields: Mapping[str, Scalar | None],
        time: datetime,
        received: datetime | None = None,
        mark: bytes = UNMARKED,
    ) -> Entity:
        """The entity after an observation made at `time` that came at `received`; `mark` tells what it said."""
        state, features = plan.apply(self.state, fields, time, received)
        return Entity(self.applied + 1, state, features, self.ids + id_hash(event_id) + mark, self.pages, self.life)

    def labelled(self, plan: FeaturePlan, label: Scalar, observed: datetime, correction: int) -> Entity:
        """The entity once a label of its own is known; the same where it is no news."""
        return replace(self, state=plan.label(self.state, label, observed, correction))

    def dump(self) -> bytes:
        """The value to keep."""
        ids = b64encode(self.ids).decode()
        return dumps([self.applied, self.state, self.features, ids, self.pages, self.life, ENTRY_BYTES])

    @classmethod
    def load(cls, value: bytes | None) -> Entity:
        """The entity from its value; a new one from None."""
        if value is None:
            return cls()
        applied, state, features, ids, pages, *rest = json.loads(value)
        page = b64decode(ids)
        return cls(applied, state, features, page if len(rest) > 1 else marked(page), pages, *rest[:1])
