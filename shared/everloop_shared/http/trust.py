"""Which requests are taken: the Host they name, the page they come from, and the content type they carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from everloop_shared.http.problems import BadRequest, Forbidden, Misdirected, UnsupportedType

SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing; every other one is asked where it comes from."""
READ = frozenset(
    (
        b"application/json",
        b"application/jsonl",
        b"application/x-jsonlines",
        b"application/ndjson",
        b"application/x-ndjson",
        b"application/yaml",
        b"application/x-yaml",
        b"text/yaml",
        b"text/x-yaml",
    )
)
"""JSON and YAML: what a page elsewhere cannot send without being asked for permission first, which nobody gives it."""
_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_KNOWN = 256
"""Host values remembered as allowed, so that they are not parsed again."""


class Trust:
    """The names of this service, and what a web page elsewhere may not do.

    A browser sends what any page tells it to: a page whose name points at this machine (DNS rebinding) gives itself
    away by its Host, a page elsewhere by Origin, by Sec-Fetch-Site, or by a content type that needs no permission.
    """

    def __init__(self, allowed_hosts: str, listening_on: str) -> None:
        """`allowed_hosts`: NAME or NAME:PORT, commas between; `*` takes every Host, though no foreign Origin."""
        allowed = {entry.strip().lower().encode() for entry in allowed_hosts.split(",")} - {b""}
        self._any_host = b"*" in allowed
        self._allowed = allowed - {b"*"}
        self._listening_on = listening_on.lower()
        self._known: set[bytes] = set()

    def check_host(self, host: bytes | None, server: tuple[str, int | None] | None) -> None:
        """Raises Misdirected for a name that is not ours; `server` is where the request arrived."""
        if host in self._known:
            return
        if host is None:
            raise BadRequest("the request names no Host")
        found = _AUTHORITY.fullmatch(host)
        if found is None:
            raise BadRequest("the Host is no NAME or NAME:PORT")
        name = found[1].lower().rstrip(b".")
        if not (
            self._any_host or name in self._allowed or host.lower() in self._allowed or self._is_here(name, server)
        ):
            raise Misdirected(
                f"{host.decode()[:100]} is no name of this service; name it in EVERLOOP_ALLOWED_HOSTS if it is one"
            )
        if len(self._known) < _KNOWN:
            self._known.add(host)

    def check_page(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Forbidden where a web page elsewhere asks for a change."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return  # not a browser, or one from before 2020: the content type stands in its way
        if origin is not None:
            where = origin.partition(b"://")[2].lower()
            if where in self._allowed or where.rpartition(b":")[0] in self._allowed:
                return
            if where != headers.get(b"host", b"").lower():
                raise Forbidden(
                    f"a page of {origin.decode(errors='replace')[:100]} asks for a change; "
                    "name its host in EVERLOOP_ALLOWED_HOSTS if it may"
                )
        if site not in (None, b"same-origin", b"none"):
            raise Forbidden("a page of another site asks for a change (Sec-Fetch-Site)")

    def check_type(self, content_type: bytes | None) -> None:
        """Raises UnsupportedType for what is neither JSON nor YAML."""
        if content_type == b"application/json":
            return
        kind = (content_type or b"").partition(b";")[0].strip().lower()
        if kind in READ or (kind.startswith(b"application/") and kind.endswith((b"+json", b"+yaml"))):
            return
        named = f"{kind.decode(errors='replace')[:80]} is not read here" if kind else "the content type is missing"
        raise UnsupportedType(f"{named}; send content-type: application/json (or YAML where a file is meant)")

    def _is_here(self, name: bytes, server: tuple[str, int | None] | None) -> bool:
        text = name.decode().strip("[]")
        if text in ("localhost", self._listening_on):
            return text not in ("0.0.0.0", "::")  # every address, so the name of none
        try:
            address = _plain(text)
            return address.is_loopback or (server is not None and address == _plain(server[0]))
        except ValueError:
            return False


def _plain(text: str) -> IPv4Address | IPv6Address:
    """The address; one of IPv4 that came by a socket of both kinds, `::ffff:10.0.0.7`, as what it is."""
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
