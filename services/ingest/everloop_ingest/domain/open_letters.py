"""Dead letters that still show what they are about."""

from __future__ import annotations

from dataclasses import dataclass

from everloop_schemas.dead_letter import DeadLetter


@dataclass(frozen=True)
class OpenLetter:
    """A dead letter with the record of a source, of a loop with personal fields: it has to be sealed.

    `entity` is whom the record is about; empty where that cannot be told.
    """

    letter: DeadLetter
    entity: str
