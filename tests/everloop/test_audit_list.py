"""Who did what is listed from records of several topics, each action once, with its actor and request."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.builders.events import run_requested
from tests.builders.loops import NOW

from everloop.cli import audit_entries
from everloop.cli.audit_entries import REQUESTS, Entries, Wanted, table_of
from everloop.cli.output import CommandFailed, print_result, read_moment
from everloop_schemas.erasure import (
    ErasureConfirmed,
    ErasureConfirmedData,
    ErasureDecided,
    ErasureDecidedData,
    Removed,
)
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.registry import Decided
from everloop_schemas.training import RunRequested
from everloop_shared.access.identity import Identity
from everloop_shared.audit.request import AuditedRequest

DECIDED, RUNS, LETTERS = Decided.topic.name, RunRequested.topic.name, DeadLetterSent.topic.name
TRACE = "0af7651916cd43dd8448eb211c80319c"


def decided(number: int, seconds: float = 0.0, loop: str = "m", **more: Any) -> bytes:
    body = {
        "id": f"d{number}",
        "type": "registry.loop_resumed.v1",
        "time": (NOW + timedelta(seconds=seconds)).isoformat(),
    }
    known = {"loop": loop, "subject": loop, "source": "everloop/registry", "data": {"reason": f"reason {number}"}}
    return json.dumps({**body, **known, **more}).encode()


def letter(actor: str, seconds: float) -> bytes:
    body = json.loads(decided(0, seconds))
    sent = {"type": "monitoring.dead_letter_sent.v1", "source": "everloop/monitoring", "data": {"actor": actor}}
    return json.dumps({**body, **sent}).encode()


def recorded(phase: str, seconds: float = 0.0, request: str = "r1", **more: Any) -> tuple[str, bytes]:
    """A record of alice's request to resume the loop, as its service writes it."""
    asked = AuditedRequest("registry", "10.0.0.7", "POST", "ticket-7", f"00-{TRACE}-1-01", "rollout.change")
    asked.route, asked.loop, asked.id = "/v1/loops/{loop}/resume", "m", request
    asked.identity = Identity("alice", "key", "evl_1")
    left_out = more.pop("left_out", 0)
    for name, value in more.items():
        setattr(asked, name, value)
    event = asked.event(phase, left_out)  # type: ignore[arg-type]
    return REQUESTS, event.copy_with(time=NOW + timedelta(seconds=seconds)).encode()


def listed(*records: tuple[str, bytes], **wanted: Any) -> Entries:
    entries = Entries(Wanted(**wanted))
    for record in records:
        entries.add(*record)
    return entries


def test_actions_of_all_topics_are_listed_by_time_with_who_did_them_and_by_which_request(
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_alice = decided(1, 9, actor="alice", actor_kind="key", actor_source="evl_1", traceparent=f"00-{TRACE}-1-01")
    requested = run_requested("r", time=NOW + timedelta(seconds=3))

    records = [(DECIDED, by_alice), (LETTERS, letter("bob", 5)), (RUNS, requested.encode()), (DECIDED, decided(2))]

    found = listed(*records).newest_last()
    print_result(table_of(found))
    shown = capsys.readouterr().out.splitlines()[-1].split()

    assert [(one.action, one.actor) for one in found] == [
        ("loop_resumed", "anonymous"),
        ("run_requested", "everloop/training"),
        ("dead_letter_sent", "bob"),
        ("loop_resumed", "alice"),
    ]
    assert (found[3].actor_kind, found[3].actor_source, found[3].trace) == ("key", "evl_1", TRACE)
    assert shown[1:] == ["m", "loop", "resumed", "m", "alice", "key", "evl_1", TRACE, "reason", "1"]
    assert (found[3].why, found[1].cause) == ("reason 1", requested.causationid)


def test_a_request_is_told_once_with_its_answer_and_what_it_led_to(capsys: pytest.CaptureFixture[str]) -> None:
    done = decided(1, 2, actor="alice", actor_kind="key", actor_source="evl_1", traceparent=f"00-{TRACE}-1-01")
    by_itself = decided(2, 3, actor="everloop/registry", traceparent=f"00-{TRACE}-1-01", causationid="cause")
    requested, answered = recorded("requested", 1), recorded("answered", 4, status=200)

    for records in (
        [requested, (DECIDED, done), (DECIDED, by_itself), answered],
        [(DECIDED, done), answered, requested],
    ):
        first, *others = listed(*records).newest_last()
        assert (first.action, first.led_to, first.answer, first.why) == (
            "rollout.change",
            ("loop_resumed",),
            200,
            "reason 1",
        )
        assert (first.time, first.address, first.request) == (NOW + timedelta(seconds=1), "10.0.0.7", "ticket-7")
        assert [one.event for one in others] == ["d2"] * (len(records) - 3)

    [alone] = listed(requested).newest_last()
    print_result(table_of([first, alone]))
    _, told, unanswered = capsys.readouterr().out.splitlines()
    assert "rollout.change: loop resumed" in told
    assert "10.0.0.7" in told
    assert "no answer recorded" in unanswered
    assert first.for_programs()["led_to"] == ["loop_resumed"]


def test_an_erasure_is_one_line_that_names_the_entity_and_the_confirmation_another(
    capsys: pytest.CaptureFixture[str],
) -> None:
    by_alice = {"actor": "alice", "actor_kind": "key", "actor_source": "evl_1", "traceparent": f"00-{TRACE}-1-01"}
    about = {"loop": "m", "subject": "customer-7", "sequence": 4, "prevhash": "0" * 64, "revision": 1}
    data = ErasureDecidedData(reason="by letter", models="keep", versions=("a-0@1",))
    erasure = ErasureDecided(id="e1", time=NOW + timedelta(seconds=2), data=data, **about, **by_alice)
    gone = ErasureConfirmedData(cause="person", removed=Removed(sealed=True), decision=4)
    caused = {**about, "sequence": 5, "causationid": "receipt", "traceparent": f"00-{TRACE}-1-01"}
    done = ErasureConfirmed(id="e2", time=NOW + timedelta(seconds=3), data=gone, actor="everloop/registry", **caused)
    asked = {"action": "personal.erase", "route": "/v1/loops/{loop}/entities/{entity}/erase"}
    requests = recorded("requested", 1, **asked), recorded("answered", 4, status=202, **asked)

    found = listed(*requests, (DECIDED, erasure.encode()), (DECIDED, done.encode())).newest_last()
    print_result(table_of(found))

    [line, confirmed] = capsys.readouterr().out.splitlines()[1:]
    assert [one.action for one in found] == ["personal.erase", "erasure_confirmed"]
    assert (found[0].led_to, found[0].about, found[0].why) == (("erasure_decided",), ("customer-7",), "by letter")
    assert found[0].for_programs()["about"] == ["customer-7"]
    assert "customer-7" in line
    assert "alice" in line
    assert "customer-7" in confirmed


def test_one_trace_of_many_requests_gives_each_what_came_after_it() -> None:
    trace = f"00-{TRACE}-1-01"
    records = [
        *(recorded("requested", 10 * n, f"r{n}") for n in range(3)),
        *((DECIDED, decided(n, 10 * n + 1, actor="alice", traceparent=trace)) for n in range(3)),
        (DECIDED, decided(9, -1, actor="alice", traceparent=trace)),
        (DECIDED, decided(10, 15, actor="alice", traceparent=trace, source="everloop/training")),
    ]

    found = {one.event: one.led_to for one in listed(*records).newest_last()}

    assert found == {"d9": (), "r0": ("loop_resumed",), "r1": ("loop_resumed",), "d10": (), "r2": ("loop_resumed",)}


def test_actions_addresses_refusals_and_a_time_narrow_the_list() -> None:
    trace = f"00-{TRACE}-1-01"
    records = [
        recorded("requested", 1),
        (DECIDED, decided(1, 2, actor="alice", traceparent=trace)),
        recorded("answered", 3, status=200),
        recorded("refused", 4, "r2", address="10.0.0.8", status=403, refused="not_permitted", left_out=3),
        recorded("left_out", 5, "r3", address="10.0.0.8", left_out=997),
        (DECIDED, decided(2, 6, actor="alice")),
    ]

    def found(**wanted: Any) -> list[str]:
        return [one.event for one in listed(*records, **wanted).newest_last()]

    assert found() == ["r1", "r2", "r3", "d2"]
    assert found(address="10.0.0.7") == ["r1"]
    assert found(action="loop_resumed") == ["d1", "d2"], "an event is told alone where its request is not asked for"
    assert found(action="rollout.change") == ["r1", "r2"]
    assert found(refused=True) == ["r2", "r3"]
    assert found(until=NOW + timedelta(seconds=4)) == ["r1"]
    assert listed(*records, address="10.0.0.7").newest_last()[0].led_to == ("loop_resumed",)
    [refused, left_out] = listed(*records, refused=True).newest_last()
    assert refused.for_people() == "403 not_permitted"
    assert (left_out.why, left_out.for_people()) == ("997 more refusals of this address have no record", "")


def test_a_long_log_takes_a_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_entries, "MAX_ENTRIES", 10)
    entries = Entries(Wanted())
    sizes = []

    for n in range(200):
        entries.add(*recorded("requested", n, f"r{n}"))
        entries.add(DECIDED, decided(n, n + 0.5, actor="alice", traceparent=f"00-{TRACE}-1-01"))
        entries.add(*recorded("answered", n + 0.7, f"r{n}", status=200))
        sizes.append(len(entries._requests) + len(entries._events))  # noqa: SLF001

    newest = entries.newest_last()
    assert max(sizes) <= 40
    assert [(one.event, one.led_to, one.answer) for one in newest] == [
        (f"r{n}", ("loop_resumed",), 200) for n in range(190, 200)
    ]
    assert entries.left_out == 190


def test_a_loop_a_time_and_an_actor_narrow_the_list() -> None:
    records = [(DECIDED, decided(n, n, actor="ab"[n % 2], loop="mn"[n // 4])) for n in range(8)]

    of_loop = listed(*records, loop="n").newest_last()
    since = listed(*records, since=NOW + timedelta(seconds=6)).newest_last()
    by_actor = listed(*records, actor="b", loop="m").newest_last()

    assert [one.event for one in of_loop] == ["d4", "d5", "d6", "d7"]
    assert [one.event for one in since] == ["d6", "d7"]
    assert [one.event for one in by_actor] == ["d1", "d3"]
    with pytest.raises(CommandFailed, match="--since: 'yesterday' is no RFC 3339 time"):
        read_moment("--since", "yesterday")


def test_a_record_counts_once_strangers_are_counted_and_the_newest_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_entries, "MAX_ENTRIES", 3)
    strange = [b"", b"{}", b"[]", decided(0, time=3), decided(0, data=None), decided(0, traceparent=1)]
    records = [(DECIDED, wire) for wire in (*strange, *(decided(n, 10 - n) for n in range(10)), decided(1, 9))]

    entries = listed(*records)

    assert [one.event for one in entries.newest_last()] == ["d2", "d1", "d0"]
    assert (entries.left_out, entries.strangers) == (7, len(strange))
