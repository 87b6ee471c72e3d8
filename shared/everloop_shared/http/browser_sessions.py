"""How a browser carries a session: a cookie that no script reads, and a header that its own pages alone send."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from everloop_shared.access.sessions import Begun, Session, Sessions
from everloop_shared.http.origin import SAFE_METHODS
from everloop_shared.http.problems import Forbidden

CSRF_HEADER = "x-csrf-token"
SESSION = "everloop.session"
"""The key of an ASGI scope for the `FoundSession` of a request; not there for a request with a token of its own."""
MAX_VALUE_LENGTH = 500
"""Characters of a cookie of ours."""


class StrictCookie(NamedTuple):
    """A cookie that goes back to where it came from alone, and that scripts cannot read.

    With TLS its name begins with `__Host-`, so that no other host and no plain page can have set it.
    """

    name: str
    secure: bool

    @property
    def full_name(self) -> str:
        """The name that the browser knows."""
        return f"__Host-{self.name}" if self.secure else self.name

    def with_value(self, value: str, lasts_s: int | None = None) -> str:
        """What Set-Cookie says; without `lasts_s` the browser forgets it when it is closed."""
        age = "" if lasts_s is None else f"; Max-Age={lasts_s}"
        return f"{self.full_name}={value}; Path=/; HttpOnly; SameSite=Strict{'; Secure' if self.secure else ''}{age}"

    def cleared(self) -> str:
        """What Set-Cookie says to have it forgotten."""
        return self.with_value("", 0)

    def read(self, sent: bytes | None) -> str | None:
        """Its value in a Cookie header; None where it is not there, twice there, or not one of ours."""
        parts = [part.strip().partition(b"=") for part in (sent or b"").split(b";")]
        values = [value for name, _, value in parts if name == self.full_name.encode()]
        if len(values) != 1 or not values[0].isascii() or not 0 < len(values[0]) <= MAX_VALUE_LENGTH:
            return None
        return values[0].decode("ascii")


class FoundSession(NamedTuple):
    """The session of a request, by the value of its cookie."""

    id: str
    session: Session

    @property
    def authorization(self) -> bytes:
        """What the request would carry without a session."""
        return b"Bearer " + self.session.token.encode()


class BrowserSessions:
    """Finds the session of a request of the service's own pages, and of no others.

    Both halves are needed for every request. A browser sends cookies to all ports of a host, so the cookie alone would
    let whoever serves another port act as the person; the other half stays with the origin that signed in.
    """

    def __init__(self, sessions: Sessions, cookie: StrictCookie, origin: str = "") -> None:
        """`origin`: that of the pages, SCHEME://HOST[:PORT], where it is another than the Host of requests."""
        self.sessions, self.cookie, self._origin = sessions, cookie, origin.lower().encode()

    def find(self, method: str, headers: Mapping[bytes, bytes]) -> FoundSession | None:
        """The session that a request belongs to, which counts as used.

        Raises Forbidden for a change that has the cookie alone, or comes from a page of another origin.
        """
        id = self.cookie.read(headers.get(b"cookie"))
        session = self.sessions.find(id) if id else None
        if id is None or session is None:
            return None
        wrong = self._what_is_wrong(session, method, headers)
        if wrong is None:
            self.sessions.use(id)
            return FoundSession(id, session)
        if method in SAFE_METHODS:
            return None
        raise Forbidden(wrong)

    def begin(self, token: str, subject: str, sent: bytes | None) -> Begun:
        """A new session; the one of the Cookie header that was sent ends."""
        if before := self.cookie.read(sent):
            self.sessions.end(before)
        return self.sessions.begin(token, subject)

    def _what_is_wrong(self, session: Session, method: str, headers: Mapping[bytes, bytes]) -> str | None:
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if site not in (None, b"same-origin") or (origin is not None and not self._is_own(origin, headers)):
            return "a session is for the pages of its own origin"
        if method not in SAFE_METHODS and origin is None and site is None:
            return "a session changes something by a browser alone, which says where its page is from (Origin)"
        if not session.has_csrf(headers.get(CSRF_HEADER.encode(), b"")):
            return f"the header {CSRF_HEADER} is missing or wrong: it has what signing in has answered as csrf"
        return None

    def _is_own(self, origin: bytes, headers: Mapping[bytes, bytes]) -> bool:
        sent = origin.lower()
        return sent == self._origin or sent.partition(b"://")[2] == headers.get(b"host", b"").lower()
