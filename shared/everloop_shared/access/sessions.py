"""Sessions of people who have signed in with a token, and codes by which a browser signs in once; kept in memory."""

from __future__ import annotations

import hmac
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import NamedTuple

SECRET_BYTES = 32
MOST_SESSIONS, MOST_OF_SUBJECT = 1_000, 20
"""Sessions of all and of one subject; a further one ends the one that was used least recently."""
CODE_S = 60.0
"""How long a code may be used."""
MOST_CODES = 1_000


class Begun(NamedTuple):
    """The two halves of a session: `id` for its cookie, `csrf` for the scripts of the origin that began it."""

    id: str
    csrf: str


@dataclass
class Session:
    """Somebody who has signed in. The token is checked again at every request; times are in seconds."""

    token: str
    subject: str
    csrf_digest: bytes
    began: float
    used: float

    def has_csrf(self, csrf: bytes) -> bool:
        """Whether this is its second half; compares in a time that does not depend on it."""
        return hmac.compare_digest(self.csrf_digest, sha256(csrf).digest())


class Sessions:
    """The sessions of one process. They end when it does, after `idle_s` without a request, and after `longest_s`.

    Of both halves it keeps hashes alone.
    """

    def __init__(self, idle_s: float, longest_s: float, now: Callable[[], float] = time.time) -> None:
        self._idle_s, self._longest_s, self._now = idle_s, longest_s, now
        self._sessions: OrderedDict[bytes, Session] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def begin(self, token: str, subject: str) -> Begun:
        """A new session of whoever has this token."""
        begun, now = Begun(_secret(), _secret()), self._now()
        self._make_room(subject, now)
        self._sessions[_digest(begun.id)] = Session(token, subject, _digest(begun.csrf), now, now)
        return begun

    def find(self, id: str) -> Session | None:
        """The session of this cookie, while it lasts."""
        found = self._sessions.get(_digest(id))
        if found is not None and self._has_ended(found, self._now()):
            self.end(id)
            return None
        return found

    def use(self, id: str) -> None:
        """A request of it was accepted."""
        if found := self._sessions.get(digest := _digest(id)):
            found.used = self._now()
            self._sessions.move_to_end(digest)

    def end(self, id: str) -> None:
        """End it; nothing happens where it has ended."""
        self._sessions.pop(_digest(id), None)

    def _make_room(self, subject: str, now: float) -> None:
        for digest in [digest for digest, session in self._sessions.items() if self._has_ended(session, now)]:
            del self._sessions[digest]
        own = [digest for digest, session in self._sessions.items() if session.subject == subject]
        if len(own) >= MOST_OF_SUBJECT:
            del self._sessions[own[0]]
        elif len(self._sessions) >= MOST_SESSIONS:
            self._sessions.popitem(last=False)

    def _has_ended(self, session: Session, now: float) -> bool:
        return now - session.used >= self._idle_s or now - session.began >= self._longest_s


class SignInCodes:
    """Codes that stand for a token for a minute, and once; a subject has one at a time."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._codes: OrderedDict[str, tuple[bytes, str, float]] = OrderedDict()

    def issue(self, token: str, subject: str) -> str:
        """A code for this token; an earlier one of its subject is not valid any more."""
        code = _secret()
        self._codes.pop(subject, None)
        self._codes[subject] = (_digest(code), token, self._now() + CODE_S)
        while len(self._codes) > MOST_CODES:
            self._codes.popitem(last=False)
        return code

    def redeem(self, code: str) -> str | None:
        """The token that a code stands for, which it does not any more; None for one that was used or is too old."""
        digest = _digest(code)
        subject = next((subject for subject, (known, _, _) in self._codes.items() if known == digest), None)
        if subject is None:
            return None
        _, token, until = self._codes.pop(subject)
        return token if self._now() < until else None


def _secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def _digest(secret: str) -> bytes:
    return sha256(secret.encode()).digest()
