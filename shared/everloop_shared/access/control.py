"""The check before every route: who asks, what the route does, and whether a role permits it."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from everloop_schemas.access.routes import OPEN_RULES, RULES, SIGN_IN, Reach, RouteRule
from everloop_shared.access.errors import NotAuthenticated, NotPermitted, TokenNotValid
from everloop_shared.access.identity import Identity
from everloop_shared.access.key_file import split_token
from everloop_shared.access.keys import Keys
from everloop_shared.access.settings import AccessSettings
from everloop_shared.access.teams import TeamQuotas, without_quotas

if TYPE_CHECKING:
    from everloop_shared.access.tokens import TokenVerifier

HOW = "send the header Authorization: Bearer TOKEN, with a key (everloop keys create) or a token of your provider"
MAX_TOKEN_LENGTH = 8_192
"""Characters of a token; longer ones are refused unread."""


class _Found(NamedTuple):
    rule: RouteRule
    loop: str


class RouteTable:
    """The rules of one service, by method."""

    def __init__(self, rules: Sequence[RouteRule]) -> None:
        self._by_method: dict[str, list[tuple[re.Pattern[str], RouteRule]]] = {}
        for rule in rules:
            self._by_method.setdefault(rule.method, []).append((rule.pattern, rule))

    @classmethod
    def of_service(cls, service: str) -> RouteTable:
        """All that ask who somebody is, and the ways in."""
        return cls([*RULES.get(service, ()), *SIGN_IN.get(service, ())])

    def find(self, method: str, path: str) -> _Found | None:
        """The rule of a request, and the loop in its address; HEAD is as GET."""
        for pattern, rule in self._by_method.get("GET" if method == "HEAD" else method, ()):
            if match := pattern.fullmatch(path):
                return _Found(rule, match["loop"] if rule.reach is Reach.LOOP else "")
        return None


class Authenticator:
    """Finds out who sends a token: a key of the installation, or a token of its OIDC provider."""

    def __init__(self, keys: Keys | None, tokens: TokenVerifier | None) -> None:
        self._keys, self._tokens = keys, tokens

    async def identify(self, authorization: bytes | None) -> Identity:
        """Who asks; raises NotAuthenticated, or Unavailable while the provider's keys cannot be read."""
        token = bearer_token(authorization)
        if (identity := self._by_key(token)) is not None:
            return identity
        if self._tokens is None:
            raise TokenNotValid("the token is none of this installation's keys")
        return self._with_file_roles(await self._tokens.verify(token))

    def identify_at_once(self, authorization: bytes | None) -> Identity | None:
        """The same where nothing has to be awaited; None where it does."""
        token = bearer_token(authorization)
        if (identity := self._by_key(token)) is not None:
            return identity
        known = self._tokens.known(token) if self._tokens else None
        return None if known is None else self._with_file_roles(known)

    def _by_key(self, token: str) -> Identity | None:
        parts = split_token(token)
        return self._keys.identify(*parts) if parts and self._keys else None

    def _with_file_roles(self, identity: Identity) -> Identity:
        return self._keys.with_file_roles(identity) if self._keys else identity


class AccessControl:
    """Lets a request pass, or says what is missing; whatever the table of routes does not list is refused."""

    def __init__(
        self, routes: RouteTable, authenticator: Authenticator, open_routes: Collection[tuple[str, str]] = ()
    ) -> None:
        """`open_routes`: methods and paths that are answered to everybody."""
        self._routes, self._authenticator, self._open = routes, authenticator, frozenset(open_routes)

    def is_open(self, method: str, path: str) -> bool:
        """Whether it is answered to everybody; HEAD is as GET."""
        return ("GET" if method == "HEAD" else method, path) in self._open

    async def identify(self, authorization: bytes | None) -> Identity:
        """Who asks; raises as `Authenticator.identify`."""
        return await self._authenticator.identify(authorization)

    def require(self, identity: Identity, method: str, path: str, is_route: Callable[[], bool]) -> None:
        """Raises NotPermitted unless they may.

        `is_route` says whether the service answers this method and path at all: what it does not is left to it, so
        that a known caller reads what is wrong with the address.
        """
        found = self._routes.find(method, path)
        if found is not None:
            _require(identity, found)
        elif is_route():
            raise NotPermitted(f"{method} {path[:200]} has no rule of access, so nobody may use it")

    def admit_at_once(self, method: str, path: str, authorization: bytes | None) -> Identity | None:
        """The same for a request that nothing has to be awaited for; None where it takes those, which say why."""
        found = self._routes.find(method, path)
        if found is None or "%" in path or "?" in path:
            return None
        try:
            identity = self._authenticator.identify_at_once(authorization)
        except NotAuthenticated:
            return None
        return identity if identity is not None and _permits(identity, found) else None


def bearer_token(authorization: bytes | None) -> str:
    """The token of an Authorization header; raises NotAuthenticated."""
    if authorization is None:
        raise NotAuthenticated(f"there is no token; {HOW}")
    scheme, _, sent = authorization.strip().partition(b" ")
    token = sent.strip()
    if scheme.lower() != b"bearer" or not token:
        raise NotAuthenticated(f"the Authorization header has no bearer token; {HOW}")
    if len(token) > MAX_TOKEN_LENGTH or not token.isascii():
        raise TokenNotValid(f"a token has at most {MAX_TOKEN_LENGTH:,} characters, all of ASCII")
    return token.decode("ascii")


def access_control(settings: AccessSettings, service: str) -> AccessControl | None:
    """The check of a service's HTTP routes; None where EVERLOOP_AUTH is off. Raises Misconfigured."""
    if not settings.has_access_control:
        return None
    return AccessControl(RouteTable(RULES.get(service, ())), authenticator(settings), OPEN_RULES.get(service, ()))


def authenticator(settings: AccessSettings) -> Authenticator:
    """Who asks, by the keys and the provider of the settings. Raises Misconfigured."""
    keys = Keys(settings.auth_keys) if settings.auth_keys else None
    if not settings.auth_issuer:
        return Authenticator(keys, None)
    from everloop_shared.access.tokens import TokenVerifier  # cryptography takes a while, and keys do without

    return Authenticator(keys, TokenVerifier(settings.provider()))


def team_quotas(settings: AccessSettings) -> TeamQuotas:
    """How much teams may have, by the file of keys, read again when it changes. Raises Misconfigured."""
    if not settings.has_access_control or settings.auth_keys is None:
        return without_quotas
    return Keys(settings.auth_keys).team_quota


def _permits(identity: Identity, found: _Found) -> bool:
    action, reach = found.rule.action, found.rule.reach
    if reach is Reach.LOOP:
        return identity.may(action, found.loop)
    return identity.may_everywhere(action) if reach is Reach.ALL else identity.may_somewhere(action)


_WHERE: Mapping[Reach, str] = {Reach.SOME: "for any loop", Reach.ALL: "for all loops"}


def _require(identity: Identity, found: _Found) -> None:
    if not _permits(identity, found):
        where = _WHERE.get(found.rule.reach, f"for loop {found.loop[:200]}")
        raise identity.refusal(found.rule.action, where)
