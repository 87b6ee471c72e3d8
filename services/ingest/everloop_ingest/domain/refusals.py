"""Dead letters of observations that a loop refuses because of what it expects: a few of them, which count for all."""

from __future__ import annotations

from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from everloop_features.expectations import name_of
from everloop_schemas.dead_letter import DEAD_LETTERS, DeadLetter, DeadLetterData
from everloop_schemas.envelope import derived_id
from everloop_schemas.ingest import EventReceived
from everloop_schemas.monitor_spec import ExpectationSpec
from everloop_shared.errors import FieldError, cut

LETTERS_AT_ONCE, SECONDS_PER_LETTER = 20, 10.0
"""Of each loop and process: so many letters at once, and one more in so many seconds, however much is refused."""
MAX_KEPT_BYTES = 100_000
"""Of an observation in its letter; whoever sent a larger one has it."""
REASON_CHARACTERS = 2_000
NOWHERE = -1
"""The partition and the offset of what never came on its topic."""


@dataclass(frozen=True)
class Refusal:
    """An observation that fits the loop's schema and breaks these expectations of it, with what the sender is told."""

    observation: EventReceived
    broken: tuple[ExpectationSpec, ...]
    errors: tuple[FieldError, ...]


@dataclass
class _Allowance:
    """The letters that a loop may have now, as of a time, and what was refused without one since the last."""

    left: float
    at: datetime
    untold: Counter[str] = field(default_factory=Counter)


@dataclass
class RefusalLetters:
    """Makes letters of refusals, at a bounded rate by loop: the next letter counts those that have none."""

    _allowances: dict[str, _Allowance] = field(default_factory=dict)

    def write(self, loop: str, refusals: Iterable[Refusal], now: datetime) -> list[DeadLetter]:
        """The letters of what one request was refused; the last one counts the others of the request too."""
        if not (found := list(refusals)):
            return []
        allowance = self._allowances.setdefault(loop, _Allowance(LETTERS_AT_ONCE, now))
        earned = max(0.0, (now - allowance.at).total_seconds()) / SECONDS_PER_LETTER
        allowance.left, allowance.at = min(LETTERS_AT_ONCE, allowance.left + earned), now
        count = min(len(found), int(allowance.left))
        allowance.left -= count
        for refusal in found[count:]:
            allowance.untold.update(map(name_of, refusal.broken))
        letters = []
        for i, refusal in enumerate(found[:count], 1):
            counted = Counter(map(name_of, refusal.broken))
            if i == count:
                counted, allowance.untold = counted + allowance.untold, Counter()
            letters.append(_build_letter(refusal, counted, now))
        return letters


def _build_letter(refusal: Refusal, unexpected: dict[str, int], now: datetime) -> DeadLetter:
    """The letter, as if the observation had come on its topic. The same one under the same id gives the same letter."""
    event, topic = refusal.observation, EventReceived.topic.name
    value, cls = event.encode(), DEAD_LETTERS["ingest"]
    reason = "; ".join(f"{error.field} {error.error}" for error in refusal.errors)
    content = repr(sorted((name, repr(value)) for name, value in event.data.fields.items()))
    content += event.data.personal or ""
    return cls(
        id=derived_id(event.loop, cls.type_name(), event.id, content),
        time=now,
        subject=event.id,
        loop=event.loop,
        revision=event.revision,
        causationid=event.id,
        traceparent=event.traceparent,
        data=DeadLetterData(
            topic=topic,
            partition=NOWHERE,
            offset=NOWHERE,
            error="ObservationUnexpected",
            reason=cut(f"refused by HTTP: {reason}", REASON_CHARACTERS),
            key=b64encode(event.key()).decode(),
            value=b64encode(value).decode() if len(value) <= MAX_KEPT_BYTES else None,
            unexpected=unexpected,
        ),
    )
