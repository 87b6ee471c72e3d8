"""Where keys are trusted, a record that none of them signed is named, and does not break the chain of the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.builders.loops import LOOP, NOW, loop_state
from tests.builders.signing import trusting

from everloop.cli import signed_decisions
from everloop.cli.signed_decisions import TOPICS, SignedDecisions
from everloop_schemas.decision_chain import GENESIS, digest
from everloop_schemas.registry import LoopState, ModelPromoted, ModelPromotedData
from everloop_shared.signing.events import sign_event
from everloop_shared.signing.keys import SigningKey

DECIDED, STATES = TOPICS
KEY, STRANGER = SigningKey.create(), SigningKey.create()


def log_of(count: int) -> list[bytes]:
    """Decisions of a loop, signed and chained."""
    log: list[bytes] = []
    for sequence in range(count):
        about = {"loop": LOOP, "subject": "a-0@1", "sequence": sequence, "revision": 1}
        prevhash = digest(log[-1]) if log else GENESIS
        data = ModelPromotedData(version="a-0@1", previous="0", reason=f"reason {sequence}")
        decision = ModelPromoted(id=f"d{sequence}", time=NOW, prevhash=prevhash, data=data, **about)
        log.append(sign_event(decision, KEY).encode())
    return log


def state_after(sequence: int, head: str) -> LoopState:
    state = loop_state()
    return state.copy_with(data=state.data.model_copy(update={"sequence": sequence, "head": head}))


def verified(tmp_path: Path, log: list[bytes], *states: bytes, trust: bool = True) -> SignedDecisions:
    found = SignedDecisions(trusting(tmp_path / "trusted.json", KEY) if trust else None)
    for wire in log:
        found.add(DECIDED, wire)
    for wire in states:
        found.add(STATES, wire)
    return found


def test_a_forged_state_is_named_as_unsigned_and_the_chain_of_the_loop_is_whole(tmp_path: Path) -> None:
    log = log_of(3)
    true = sign_event(state_after(2, digest(log[-1])), KEY).encode()
    forged = state_after(16, "f" * 64)

    found = verified(tmp_path, log, true, forged.encode(), sign_event(forged, STRANGER).encode(), b"{}")
    without_keys = verified(tmp_path, log, true, forged.encode(), trust=False)

    assert found.chains.loops["market"].find_break() is None
    assert [(one.topic, one.loop, one.sequence) for one in found.refused] == [(STATES, "market", 16)] * 2
    assert "market: a record of registry.loop_state.v1 with decision 16" in str(found.refused[0])
    assert found.refused[0].reason == "this registry.loop_state.v1 is not signed"
    assert "is not among the trusted ones" in found.refused[1].reason
    assert found.chains.strangers == 1
    assert without_keys.chains.loops["market"].find_break() is not None


def test_an_altered_decision_is_named_and_is_missing_in_its_chain(tmp_path: Path) -> None:
    log = log_of(4)
    log[1] = log[1].replace(b"reason 1", b"reason 9")

    found = verified(tmp_path, log)

    [refused] = found.refused
    broken = found.chains.loops["market"].find_break()
    assert (refused.topic, refused.sequence) == (DECIDED, 1)
    assert broken is not None
    assert (broken.sequence, broken.kind) == (1, "removed")


def test_so_many_forged_records_are_named_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(signed_decisions, "MAX_NAMED", 2)

    found = verified(tmp_path, [], *[state_after(9, "f" * 64).encode()] * 5)

    assert (len(found.refused), found.unnamed, found.chains.loops) == (2, 3, {})
