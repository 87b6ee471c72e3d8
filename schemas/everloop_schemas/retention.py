"""How long topics are kept where an operator wants it otherwise: `EVERLOOP_RETENTION`, read and checked."""

from __future__ import annotations

import re
from collections.abc import Mapping

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import DAY_MS, FOREVER, Topic
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.monitoring import AlertRaised
from everloop_schemas.quantities import parse_duration_s

SHORTEST_MS = DAY_MS
"""A consumer that was down for a night still finds what it has not read."""
DAYS_PER_YEAR = 365
_MAY_END = frozenset({OutcomeObserved.topic.name, AlertRaised.topic.name})
"""Topics that are kept for ever by default and may be shortened: outcomes then have to be in the archive, where a
version is to be learned again from them."""


def is_record(topic: Topic) -> bool:
    """Whether the topic is the record itself: a rebuild, an audit or a restart reads it from its beginning."""
    return topic.compacted or (topic.retention_ms == FOREVER and topic.name not in _MAY_END)


def parse_retention(text: str) -> dict[str, int]:
    """By topic without prefix, for how many milliseconds it is kept; -1 is for ever.

    `text` is such as `serving.prediction_made.v1=14d,feature.outcome_observed.v1=3y`. Raises ValueError that names the
    entry and the fix.
    """
    found: dict[str, int] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        name, given, duration = (part.strip() for part in entry.partition("="))
        topic = TOPICS.get(name)
        if not given:
            raise ValueError(f"{entry[:100]!r} has no duration; write TOPIC=DURATION, such as {_EXAMPLE}")
        if topic is None:
            raise ValueError(f"{name[:100]!r} is no topic of Everloop; write its name without prefix: {_EXAMPLE}")
        if name in found:
            raise ValueError(f"{name} is named twice; keep one of them")
        found[name] = _parse_ms(topic, duration)
    return found


_EXAMPLE = "serving.prediction_made.v1=14d"


def _parse_ms(topic: Topic, duration: str) -> int:
    if is_record(topic):
        raise ValueError(f"{topic.name} is kept for ever: rebuilds and audits read all of it; leave it out")
    if duration == "forever":
        return FOREVER
    years = re.fullmatch(r"(\d{1,3})\s*y", duration)
    try:
        kept = int(years[1]) * DAYS_PER_YEAR * DAY_MS if years else round(parse_duration_s(duration) * 1000)
    except (ValueError, OverflowError) as e:
        raise ValueError(f"{topic.name}={duration[:50]}: write a duration such as 14d, 3y or forever") from e
    if kept < SHORTEST_MS:
        raise ValueError(f"{topic.name}={duration[:50]} is too short: services that are down for a day lose records")
    return kept


def retention_of(topic: Topic, wanted: Mapping[str, int]) -> int:
    """For how many milliseconds a topic is kept, where `wanted` is what `parse_retention` found."""
    return wanted.get(topic.name, topic.retention_ms)
