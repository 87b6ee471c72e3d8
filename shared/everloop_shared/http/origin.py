"""Which requests are accepted: by Host, by the origin of the web page that sends them, and by content type."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from everloop_shared.http.problems import BadRequest, Forbidden, MisdirectedRequest, UnsupportedMediaType

SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
"""Methods that change nothing; the origin and content type of all others are checked."""
CONTENT_TYPES = frozenset(
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
"""JSON and YAML: a browser sends these across origins only after a preflight request, which is never granted."""
_AUTHORITY = re.compile(rb"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_CACHED_HOSTS = 256
"""Host values that were allowed and are not parsed again, at most."""


class OriginPolicy:
    """Protects the service from requests that a foreign web page makes a browser send.

    A page whose name resolves to this machine (DNS rebinding) is recognised by its Host, any other foreign page by
    Origin, by Sec-Fetch-Site, or by a content type that needs no preflight.
    """

    def __init__(self, allowed_hosts: str, listening_on: str, origins: Collection[bytes] = ()) -> None:
        """`allowed_hosts`: NAME or NAME:PORT, separated by commas; `*` allows every Host, but no foreign Origin.

        Pages of `origins` may request changes.
        """
        self._origins = origins
        allowed = {entry.strip().lower().encode() for entry in allowed_hosts.split(",")} - {b""}
        self._any_host = b"*" in allowed
        self._allowed = allowed - {b"*"}
        self._listening_on = listening_on.lower()
        self._cached: set[bytes] = set()

    def check_host(self, host: bytes | None, server: tuple[str, int | None] | None) -> None:
        """Raises MisdirectedRequest for a host that is not this service; `server` is where the request arrived."""
        if host in self._cached:
            return
        if host is None:
            raise BadRequest("the Host header is missing")
        found = _AUTHORITY.fullmatch(host)
        if found is None:
            raise BadRequest("the Host header must be NAME or NAME:PORT")
        name = found[1].lower().rstrip(b".")
        if not (
            self._any_host or name in self._allowed or host.lower() in self._allowed or self._is_local(name, server)
        ):
            raise MisdirectedRequest(
                f"{host.decode()[:100]} is not a host name of this service; to allow it, set EVERLOOP_ALLOWED_HOSTS"
            )
        if len(self._cached) < _CACHED_HOSTS:
            self._cached.add(host)

    def check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises Forbidden if a foreign web page requests a change."""
        origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site")
        if origin is None and site is None:
            return  # not a browser, or one from before 2020, which the content type stops
        if origin is not None:
            if origin.lower() in self._origins:
                return
            host = origin.partition(b"://")[2].lower()
            if host in self._allowed or host.rpartition(b":")[0] in self._allowed:
                return
            if host != headers.get(b"host", b"").lower():
                raise Forbidden(
                    f"a web page of {origin.decode(errors='replace')[:100]} requests a change; "
                    "to allow it, add its origin to EVERLOOP_CORS_ORIGINS, or its host to EVERLOOP_ALLOWED_HOSTS"
                )
        if site not in (None, b"same-origin", b"none"):
            raise Forbidden("a web page of another site requests a change (Sec-Fetch-Site)")

    def check_content_type(self, headers: Mapping[bytes, bytes]) -> None:
        """Raises UnsupportedMediaType unless it is JSON or YAML, or missing from a CloudEvent in binary mode.

        A browser asks before it sends headers such as those of a CloudEvent across origins, too.
        """
        content_type = headers.get(b"content-type")
        if content_type == b"application/json":
            return
        kind = (content_type or b"").partition(b";")[0].strip().lower()
        if kind in CONTENT_TYPES or kind.endswith((b"/json", b"+json", b"+yaml")):
            return
        if not kind and any(name.startswith(b"ce-") for name in headers):
            return
        named = f"{kind.decode(errors='replace')[:80]} is not supported" if kind else "the content type is missing"
        raise UnsupportedMediaType(f"{named}; send content-type: application/json (or YAML where a route reads a file)")

    def _is_local(self, name: bytes, server: tuple[str, int | None] | None) -> bool:
        text = name.decode().strip("[]")
        if text in ("localhost", self._listening_on):
            return text not in ("0.0.0.0", "::")  # a wildcard address is no host name
        try:
            address = _unmapped(text)
            return address.is_loopback or (server is not None and address == _unmapped(server[0]))
        except ValueError:
            return False


def _unmapped(text: str) -> IPv4Address | IPv6Address:
    """The address; an IPv4 address that a dual-stack socket reports as `::ffff:10.0.0.7` becomes 10.0.0.7."""
    address = ip_address(text)
    return getattr(address, "ipv4_mapped", None) or address
