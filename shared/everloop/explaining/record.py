"""Finds the record of a prediction on its topic."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from everloop.errors import EverloopError
from everloop.local.discovery import Installation
from everloop.topics import reader
from everloop_schemas.serving import PredictionMade

TOPIC = PredictionMade.topic.name


class NotExplained(EverloopError):
    """A prediction of which nothing can be said; the message says why."""


@dataclass(frozen=True)
class Recorded:
    """The last record of a prediction, and how many different ones the topic has under its id."""

    event: PredictionMade
    records: int = 1


async def find_record(
    installation: Installation, prediction_id: str, loop: str | None, on_read: Callable[[], None] = lambda: None
) -> Recorded:
    """The record of a prediction; `on_read` is called for each record that was read.

    Raises NotExplained where there is none, or several loops have one; EverloopError where the topic cannot be read.
    """
    found: dict[str, Recorded] = {}
    wanted = {json.dumps(prediction_id, ensure_ascii=ascii_only).encode() for ascii_only in (True, False)}
    async with reader(installation, [TOPIC], "explain-decision") as topics:
        while await topics.behind():
            for record in await topics.read():
                on_read()
                if any(text in record.value for text in wanted):  # most records need not be decoded
                    add_record(found, record.value, prediction_id)
    return choose_record(found, prediction_id, loop)


def choose_record(found: Mapping[str, Recorded], prediction_id: str, loop: str | None) -> Recorded:
    """The record of the loop that is meant, of those found by loop; raises NotExplained."""
    chosen = {name: one for name, one in found.items() if loop in (None, name)}
    if len(chosen) > 1:
        raise NotExplained(f"{len(chosen)} loops have a prediction {prediction_id!r}: give --loop, {_listed(chosen)}")
    if not chosen:
        others = f"; these loops have one: {_listed(found)}" if found else f"; they are kept {_days()} days"
        of = f" of {loop}" if loop else ""
        raise NotExplained(f"{TOPIC} has no prediction {prediction_id!r:.200}{of}{others}")
    return next(iter(chosen.values()))


def add_record(found: dict[str, Recorded], wire: bytes, prediction_id: str) -> None:
    """Add what a record of the topic says of a prediction, by loop; one that was published twice counts once."""
    try:
        event = PredictionMade.decode(wire)
    except ValueError:
        return  # no prediction of serving's
    if event.subject != prediction_id:
        return
    before = found.get(event.loop)
    if before is None:
        found[event.loop] = Recorded(event)
    elif before.event != event:
        found[event.loop] = Recorded(event, before.records + 1)


def _listed(found: Mapping[str, Recorded]) -> str:
    return ", ".join(sorted(found)[:10])


def _days() -> int:
    return PredictionMade.topic.retention_ms // (24 * 3600 * 1000)
