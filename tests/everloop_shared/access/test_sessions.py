"""Sessions of the console: how long they last, how many there are, and codes that are used once."""

from __future__ import annotations

from everloop_shared.access.sessions import CODE_S, MOST_OF_SUBJECT, MOST_SESSIONS, Begun, Sessions, SignInCodes

IDLE_S, LONGEST_S = 1_800.0, 43_200.0


class Hands:
    """A clock that a test moves, in seconds."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def begun_by(sessions: Sessions, subject: str, count: int) -> list[Begun]:
    """So many sessions of one subject."""
    return [sessions.begin("a-token", subject) for _ in range(count)]


def test_a_session_ends_without_requests_and_after_its_longest_time_whatever_is_asked() -> None:
    clock = Hands()
    sessions = Sessions(IDLE_S, LONGEST_S, clock)
    idle, busy = begun_by(sessions, "alice", 2)

    clock.now += IDLE_S - 1
    sessions.use(busy.id)
    lasting = sessions.find(idle.id)
    clock.now += 1
    after_idle = sessions.find(idle.id), sessions.find(busy.id)
    for _ in range(int(LONGEST_S / IDLE_S)):
        sessions.use(busy.id)
        clock.now += IDLE_S - 1

    assert lasting is not None
    assert after_idle[0] is None
    assert after_idle[1] is not None
    assert sessions.find(busy.id) is None
    assert len(sessions) == 0


def test_sessions_are_bounded_for_each_subject_and_in_all() -> None:
    sessions = Sessions(IDLE_S, LONGEST_S)
    other = sessions.begin("a-token", "bob")

    own = begun_by(sessions, "alice", MOST_OF_SUBJECT + 1)
    of_alice = [sessions.find(each.id) is not None for each in own]
    bob_stays = sessions.find(other.id)
    for number in range(MOST_SESSIONS):
        sessions.begin("a-token", f"person-{number}")

    assert of_alice == [False] + [True] * MOST_OF_SUBJECT
    assert bob_stays is not None
    assert len(sessions) == MOST_SESSIONS


def test_nothing_that_a_browser_sends_is_kept_as_it_is() -> None:
    sessions = Sessions(IDLE_S, LONGEST_S)
    begun = sessions.begin("a-token", "alice")

    found = sessions.find(begun.id)

    assert found is not None
    assert found.has_csrf(begun.csrf.encode())
    assert not found.has_csrf(begun.id.encode())
    assert begun.id not in repr(vars(sessions))
    assert begun.csrf not in repr(vars(sessions))


def test_a_code_is_good_once_for_a_minute_and_until_its_subject_has_another() -> None:
    clock = Hands()
    codes = SignInCodes(clock)
    replaced, used, late = codes.issue("a", "alice"), codes.issue("b", "alice"), codes.issue("c", "bob")

    redeemed = [codes.redeem(code) for code in (replaced, used, used, "another")]
    clock.now += CODE_S

    assert redeemed == [None, "b", None, None]
    assert codes.redeem(late) is None
