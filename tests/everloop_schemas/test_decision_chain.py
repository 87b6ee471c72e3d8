"""A change to the log of decisions shows, and the first record that was changed is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from everloop_schemas.decision_chain import GENESIS, Break, DecisionChains, digest

Log = list[bytes]


def decisions(n: int, loop: str = "churn") -> Log:
    log: Log = []
    for sequence in range(n):
        prevhash = digest(log[-1]) if log else GENESIS
        body = {"loop": loop, "sequence": sequence, "prevhash": prevhash, "data": {"reason": f"reason {sequence}"}}
        log.append(json.dumps(body).encode())
    return log


def state_after(log: Log) -> bytes:
    body = json.loads(log[-1])
    return json.dumps({"loop": body["loop"], "data": {"sequence": body["sequence"], "head": digest(log[-1])}}).encode()


def changed(wire: bytes, **values: Any) -> bytes:
    return json.dumps({**json.loads(wire), **values}).encode()


def verify(log: Log, state: bytes | None = None) -> Break | None:
    chains = DecisionChains()
    for wire in log:
        chains.add_decision(wire)
    if state is not None:
        chains.add_state(state)
    [chain] = chains.loops.values()
    return chain.find_break()


def altered(at: int, **values: Any) -> Callable[[Log], Log]:
    return lambda log: [*log[:at], changed(log[at], **(values or {"data": {"reason": "another"}})), *log[at + 1 :]]


CHANGES: dict[str, tuple[Callable[[Log], Log], int, str]] = {
    "an altered reason": (altered(3), 3, "altered"),
    "an altered first decision": (altered(0), 0, "altered"),
    "an altered last decision": (altered(5), 5, "altered"),
    "an altered chain": (altered(3, prevhash="f" * 64), 3, "altered"),
    "an altered chain at the end": (altered(5, prevhash="f" * 64), 5, "altered"),
    "an altered chain at the start": (altered(0, prevhash="f" * 64), 0, "altered"),
    "a removed decision": (lambda log: [*log[:2], *log[3:]], 2, "removed"),
    "a removed first decision": (lambda log: log[1:], 0, "removed"),
    "removed last decisions": (lambda log: log[:4], 4, "removed"),
    "an inserted decision": (lambda log: [*log[:4], changed(log[3], id="forged"), *log[4:]], 3, "inserted"),
    "an inserted last decision": (lambda log: [*log, changed(log[5], id="forged")], 5, "inserted"),
    "reordered decisions": (lambda log: [*log[:2], log[3], log[2], *log[4:]], 2, "reordered"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_first_decision_that_was_changed_is_named(name: str) -> None:
    change, sequence, kind = CHANGES[name]
    log = decisions(6)

    found = verify(change(log), state_after(log))

    assert found is not None
    assert (found.loop, found.sequence, found.kind) == ("churn", sequence, kind), found


def test_a_log_that_nobody_changed_is_whole_though_records_were_published_twice() -> None:
    log = decisions(6)

    assert verify(log, state_after(log)) is None
    assert verify([*log[:3], *log[1:3], *log[3:]], state_after(log)) is None
    assert verify(log, state_after(log[:4])) is None  # the state of the last ones is still to come
    assert verify(log) is None


def test_the_loops_of_a_log_have_chains_of_their_own() -> None:
    chains, one, two = DecisionChains(), decisions(3, "one"), decisions(2, "two")

    for wire in (one[0], two[0], one[1], two[1], one[2]):
        chains.add_decision(wire)

    assert {name: (len(c.links), c.find_break()) for name, c in chains.loops.items()} == {
        "one": (3, None),
        "two": (2, None),
    }


@pytest.mark.parametrize(
    "wire",
    [b"", b"\xff", b"[]", b"3", b'{"loop": "x"}', b"[" * 100_000, b'{"loop":"x","sequence":1e999,"prevhash":""}'],
)
def test_a_record_that_is_no_decision_is_counted(wire: bytes) -> None:
    chains = DecisionChains()

    chains.add_decision(wire)
    chains.add_state(wire)

    assert chains.strangers == 2
    assert chains.loops == {}
