"""Limits of callers: what is counted, for whom, and what a caller who does not wait can cost others."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from pathlib import Path

import pytest
from tests.access import NOW, add_key

from everloop_shared.access.callers import MAX_PAUSED, CallerLimits, network_of
from everloop_shared.access.errors import CallerLimited
from everloop_shared.access.identity import EVERYBODY, Identity
from everloop_shared.access.key_file import split_token
from everloop_shared.access.keys import Keys
from everloop_shared.access.limits import Caller, Limits, take_rows
from everloop_shared.access.settings import AccessSettings

ALICE, BOB = Identity("alice", "key"), Identity("bob", "key")


class Timer:
    """Seconds that a test lets pass."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def limits_of(timer: Timer | None = None, **settings: object) -> CallerLimits:
    return CallerLimits("example", AccessSettings.model_validate(settings), timer or Timer())


def of(limits: CallerLimits, identity: Identity = ALICE, address: str = "10.0.0.1") -> Caller:
    found = limits.of(identity, address)
    assert found is not None
    return found


async def admitted(limits: CallerLimits, caller: Caller, attempts: int) -> int:
    """How many of these requests pass, each of which would be over at once."""
    passed = 0
    for _ in range(attempts):
        if limits.may_pass(caller):
            await limits.admit(caller)
            passed += 1
    return passed


async def test_a_burst_passes_and_then_the_rate_alone() -> None:
    timer = Timer()
    limits = limits_of(timer, limit_requests_per_s=10, limit_burst_s=2)
    caller = of(limits)

    passed = [await admitted(limits, caller, 100)]
    for _ in range(20):
        timer.now += 0.5
        passed.append(await admitted(limits, caller, 100))

    assert passed == [20, *[5] * 20]


async def test_a_refusal_names_the_limit_and_says_when_there_is_room_again() -> None:
    timer = Timer()
    limits = limits_of(timer, limit_requests_per_s=0.5, limit_burst_s=2)
    caller = of(limits)
    await limits.admit(caller)

    with pytest.raises(CallerLimited) as refused:
        await limits.admit(caller)
    timer.now += refused.value.retry_after or 0.0

    assert refused.value.http_status == 429
    assert refused.value.retry_after == 2.0
    assert refused.value.detail == "key alice has reached its limit of 0.5 requests per second; retry later"
    assert [e.field for e in refused.value.errors] == ["requests_per_s"]
    assert limits.may_pass(caller)


async def test_what_a_request_takes_beyond_the_limit_is_paid_for_by_those_after_it() -> None:
    timer = Timer()
    limits = limits_of(timer, limit_rows_per_s=100, limit_bytes_per_s=1_000, limit_burst_s=1)
    caller = of(limits)
    await limits.admit(caller)
    with caller.working():
        take_rows(600)
    caller.take_bytes(2_000)

    waits = []
    for seconds in (0.0, 4.0, 1.5):
        timer.now += seconds
        waits.append(None if limits.may_pass(caller) else caller.excess(timer.now))

    assert [w and w.limit for w in waits] == ["rows_per_s", "rows_per_s", None]
    assert waits[0] is not None
    assert waits[0].wait_s == pytest.approx(5.01)


async def test_requests_in_progress_are_limited_and_counted_down_whatever_becomes_of_them() -> None:
    limits = limits_of(limit_in_progress=1)
    caller = of(limits)
    await limits.admit(caller)

    with suppress(ValueError), caller.working():
        with pytest.raises(CallerLimited, match="1 requests in progress"):
            await limits.admit(caller)
        raise ValueError("a crash")

    assert limits.may_pass(caller)


def test_a_caller_is_an_identity_or_the_address_of_somebody_unknown() -> None:
    limits = limits_of(limit_requests_per_s=1)

    assert of(limits, ALICE, "10.0.0.1") is of(limits, ALICE, "10.0.0.2")
    assert of(limits, ALICE) is not of(limits, BOB)
    assert of(limits, EVERYBODY, "10.0.0.1") is not of(limits, EVERYBODY, "10.0.0.2")
    assert of(limits, Identity("alice", "token", "https://issuer")) is not of(limits, ALICE)
    assert limits.of(Identity("everloop/serving", "service"), "10.0.0.1") is None, "services ask each other"


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:0db8:0001:0002::/64"),
        ("2001:db8:1:2:ffff::1", "2001:0db8:0001:0002::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("fe80::1%eth0", "fe80:0000:0000:0000::/64"),
        ("not:an:address", "not:an:address"),
        ("", ""),
    ],
)
def test_a_machine_does_not_become_many_callers_by_its_addresses(address: str, network: str) -> None:
    assert network_of(address) == network


async def test_the_least_recently_used_caller_is_forgotten() -> None:
    limits = limits_of(limit_requests_per_s=1, limit_burst_s=1, limited_callers=100)
    kept = of(limits)
    await limits.admit(kept)

    for i in range(10_000):
        of(limits, EVERYBODY, f"10.0.{i // 250}.{i % 250}")
        of(limits)

    assert limits.known == 100
    assert not limits.may_pass(of(limits)), "who goes on asking is known still"


async def test_limits_of_a_key_replace_those_of_the_settings_and_change_with_the_file(tmp_path: Path) -> None:
    file, timer = tmp_path / "keys.json", Timer()
    token = add_key(file, "alice", "admin", limits=Limits(requests_per_s=5))
    free = add_key(file, "batch", "admin", limits=Limits())
    keys = Keys(file, lambda: NOW, timer)
    limits = limits_of(timer, limit_requests_per_s=1, limit_burst_s=1)

    def caller(token: str) -> Caller:
        parts = split_token(token)
        assert parts is not None
        return of(limits, keys.identify(*parts))

    first = await admitted(limits, caller(token), 100)
    file.write_text(file.read_text().replace('"requests_per_s":5.0', '"requests_per_s": 20').replace("5.0", "20"))
    timer.now += 1.0
    changed = await admitted(limits, caller(token), 100)

    assert (first, changed) == (5, 5), "what was used before the change stays used"
    timer.now += 1.0
    assert await admitted(limits, caller(token), 100) == 20
    assert await admitted(limits, caller(free), 100) == 100


async def test_who_does_not_wait_is_refused_a_hundred_times_a_second_at_most() -> None:
    limits = CallerLimits("example", AccessSettings(limit_requests_per_s=0.001))
    caller, other = of(limits, ALICE), of(limits, BOB)
    await limits.admit(caller)
    await limits.admit(other)
    started = time.monotonic()

    refusals = await asyncio.gather(*(limits.admit(caller) for _ in range(30)), return_exceptions=True)
    took = time.monotonic() - started
    with pytest.raises(CallerLimited):
        await limits.admit(other)
    alone = time.monotonic() - started - took

    assert all(isinstance(r, CallerLimited) for r in refusals)
    assert took > 0.2
    assert alone < took, "the refusal of another caller does not wait for them"


async def test_refusals_that_wait_are_bounded() -> None:
    limits = CallerLimits("example", AccessSettings(limit_requests_per_s=0.001))
    caller = of(limits)
    await limits.admit(caller)

    waiting = [asyncio.ensure_future(limits.admit(caller)) for _ in range(MAX_PAUSED + 100)]
    await asyncio.sleep(0)  # each comes to its pause, or to its end
    done = [each for each in waiting if each.done()]
    pending = [each for each in waiting if not each.done()]
    for each in pending:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)

    assert len(done) >= 100
    assert len(pending) > 100


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({}, None),
        ({"limit_in_progress": 3}, Limits(in_progress=3)),
        ({"limit_rows_per_s": 1.5, "auth": "on", "auth_keys": "keys.json"}, Limits(rows_per_s=1.5)),
    ],
)
def test_without_limits_there_is_nothing_to_count(settings: dict[str, object], limits: Limits | None) -> None:
    found = AccessSettings.model_validate(settings)

    assert found.caller_limits() == limits
    assert found.has_caller_limits == (limits is not None)


def test_with_keys_there_may_be_limits_at_any_time() -> None:
    assert AccessSettings.model_validate({"auth": "on", "auth_keys": "keys.json"}).has_caller_limits
