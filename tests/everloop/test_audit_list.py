"""Who did what is listed from records of several topics, each action once, with its actor and request."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from tests.builders.events import run_requested
from tests.builders.loops import NOW

from everloop.cli import audit_entries
from everloop.cli.audit_entries import Entries, Wanted, table_of
from everloop.cli.output import CommandFailed, print_result, read_moment
from everloop_schemas.monitoring import DeadLetterSent
from everloop_schemas.registry import Decided
from everloop_schemas.training import RunRequested

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
