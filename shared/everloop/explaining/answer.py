"""Finds the state of a loop by which a prediction was answered, and says why its version answered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any
from urllib.parse import urlencode

from everloop.errors import EverloopHTTPError
from everloop.lineage.collect import Ask
from everloop.wire import loop_path
from everloop_learning.split import SplitAssignment, assign, hash_to_fraction, role_of
from everloop_learning.version import line_of
from everloop_schemas.registry import BASELINE
from everloop_schemas.serving import PredictionMade

State = Mapping[str, Any]
"""A loop at one moment, as the registry answers it."""
MAX_STATES = 100
"""How far back a state may be: serving goes on by the last one that it knows while the registry's topic is away."""
LAG = timedelta(seconds=60)
"""How long after a decision serving may still load a version."""
CHANGES_NOTHING_SERVED = ("registry.version_registered.v1", "registry.gate_decided.v1")
NOT_FOUND = 404


@dataclass(frozen=True)
class Answer:
    """The state that answered, and why its version did. Not `certain`: the record does not tell one cause from another.

    `split` is how the state divides predictions: the hash of the prediction in [0, 1), and what follows from it.
    """

    state: State
    why: str
    certain: bool
    hash: float
    split: SplitAssignment


def states_before(loop: str, moment: datetime, decisions: Sequence[Mapping[str, Any]], ask: Ask) -> Iterator[State]:
    """The states of the loop at a moment and before, newest first; `decisions` are those until then."""
    changes = [str(d["time"]) for d in decisions if d["type"] not in CHANGES_NOTHING_SERVED]
    times = dict.fromkeys([moment.isoformat(), *reversed(changes)])
    seen = set[tuple[int, str]]()
    for time in islice(times, MAX_STATES):
        try:
            state = ask("registry", f"{loop_path(loop)}?{urlencode({'as_of': time})}")
        except EverloopHTTPError as e:
            if e.status != NOT_FOUND:  # it was deleted then
                raise
            continue
        if (key := (state["sequence"], state["decided"])) not in seen:
            seen.add(key)
            yield state


def find_answer(event: PredictionMade, states: Iterable[State]) -> Answer | None:
    """The newest state that explains the prediction for certain, else the newest that may; None where none does.

    Serving acts on a state moments after it was decided, so that the state in force may be younger than the one that
    answered.
    """
    possible, replaced = None, event.time
    for state in states:
        if possible and event.time - replaced > LAG:
            return possible
        found = explain_by(state, event)
        if found and found.certain:
            return found
        possible, replaced = possible or found, datetime.fromisoformat(state["decided"])
    return possible


def explain_by(state: State, event: PredictionMade) -> Answer | None:
    """Why this state gives the record's version, role and propensity; None where it does not."""
    made, champion, candidate = event.data, state["champion"]["version"], (state["candidate"] or {}).get("version")
    if state["revision"] != event.revision:
        return None
    by_entity = state["spec"].get("rollout", {}).get("split_by") == "entity"
    unit, share = (made.entity if by_entity else event.subject), state["share"] if candidate else 0.0
    split = assign(event.loop, unit, share)
    place = hash_to_fraction(event.loop, unit)
    told = f"the hash of {'entity' if by_entity else 'prediction'} {unit!r:.200} is {place:.6f}"

    def answer(why: str, certain: bool) -> Answer:
        return Answer(state, why, certain, place, split)

    due, other = (str(candidate), champion) if split.canary else (champion, candidate)
    if (made.role, made.propensity) == (role_of(due, canary=split.canary), split.propensity):
        if line_of(made.version) == line_of(due):
            newer = "" if made.version == due else f"; {due}, of the same line, was not in memory yet"
            return answer(_by_split(due, told, share, split) + newer, True)
    if made.propensity == 1.0 and candidate and line_of(made.version) in (line_of(champion), line_of(candidate)):
        missing = other if made.version == due else due
        return answer(f"the request named this version, or {missing} was not in memory or failed ({told})", False)
    if made.version == BASELINE and champion != BASELINE:
        return answer(f"{champion} was not in memory or failed, so that version {BASELINE} answered", False)
    return None


def _by_split(version: str, told: str, share: float, split: SplitAssignment) -> str:
    if split.canary:
        return f"{told}, below the candidate's share of {share:.0%}"
    if share > 0:
        return f"{told}, not below the candidate's share of {share:.0%}"
    if version == BASELINE:
        return "no model had been promoted: version 0, the baseline, was the champion"
    return f"{version} was the champion, and no candidate had a share of the traffic"
