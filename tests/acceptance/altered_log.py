"""Row 7: one byte changed in a copy of `registry.decided`: verification and rebuild both stop, and say where."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from random import Random

from tests.acceptance import bus
from tests.acceptance.forged import SPEC
from tests.acceptance.house import House, check

LOOP = "altered"
TOPIC, STATES = "registry.decided.v1", "registry.loop_state.v1"
CONFIDENCES = ("0.95", "0.96", "0.97", "0.98")
RANDOM_BYTES = 4


def altered_log(house: House) -> None:
    """Decisions are made, copied with a change, verified and rebuilt."""
    for confidence in CONFIDENCES:
        if not house.apply(LOOP, SPEC.replace("confidence: 0.9", f"confidence: {confidence}")):
            return
    whole = _try(house, "whole-", lambda records: records)
    check(whole[0] == 0 and "none was changed" in whole[1], "a copy as it is, is whole", whole)
    check(whole[2] == 0, "and rebuilds", whole)
    named = f"{LOOP}: decision 1 was "  # altered; or removed, where its signature does not count and it is left out
    found = _try(house, "named-", _with_another_confidence)
    check(found[0] == 1 and named in found[1], "verify stops, naming loop and sequence", found)
    check(found[2] == 1 and named in found[3], "rebuild stops, naming loop and sequence", found)
    rng = Random(17)
    for number in range(RANDOM_BYTES):
        changed: list[str] = []
        found = _try(house, f"byte-{number}-", lambda records: _one_byte(rng, records, changed))  # noqa: B023
        said = LOOP in found[1] and LOOP in found[3]
        check((found[0], found[2], said) == (1, 1, True), f"one bit of {changed[0]}: both stop, naming the loop", found)


def _try(house: House, prefix: str, change: bus.Change) -> tuple[int, str, int, str]:
    """Status and text of `everloop audit verify`, and of a rebuild in a new database, on a changed copy."""
    bus.copy(house, prefix, {TOPIC: change, STATES: lambda records: records})
    bootstrap = house.services()["kafka"]["bootstrap"]
    settings = {"EVERLOOP_KAFKA_BOOTSTRAP": bootstrap, "EVERLOOP_TOPIC_PREFIX": prefix}
    if (config := house.services()["kafka"].get("config")) is not None:
        settings["EVERLOOP_KAFKA_CONFIG"] = config
    folder = house.folder / f"{prefix}database"
    folder.mkdir()
    verified = house.everloop("audit", "verify", LOOP, **settings)
    rebuilt = house.run(sys.executable, "-m", "everloop_registry", "rebuild", **settings, EVERLOOP_DATA=str(folder))
    return verified.returncode, verified.stdout + verified.stderr, rebuilt.returncode, rebuilt.stderr[-3_000:]


def _with_another_confidence(records: Sequence[bus.Record]) -> list[bus.Record]:
    return [r._replace(value=r.value.replace(b'"confidence":0.96', b'"confidence":0.66')) for r in records]


def _one_byte(rng: Random, records: Sequence[bus.Record], changed: list[str]) -> list[bus.Record]:
    """The records with one bit of one of the loop's turned over, which leaves JSON that can be read."""
    made = list(records)
    mine = [i for i, r in enumerate(made) if json.loads(r.value).get("loop") == LOOP]
    while not changed:
        at = rng.choice(mine)
        value = bytearray(made[at].value)
        place = rng.randrange(len(value))
        value[place] ^= 1 << rng.randrange(3)
        try:
            event = json.loads(bytes(value))
        except ValueError:
            continue
        if event.get("loop") == LOOP:
            around = made[at].value[max(0, place - 12) : place + 8].decode(errors="replace")
            changed.append(f"decision {json.loads(made[at].value)['sequence']} at ...{around}...")
            made[at] = made[at]._replace(value=bytes(value))
    return made
