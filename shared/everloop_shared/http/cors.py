"""Cross-origin requests of the web pages that the settings name (CORS, opt-in); of no other page."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

HeaderList = list[tuple[bytes, bytes]]
EXPOSED = b"etag, location, retry-after, x-request-id"
"""Response headers that a script may read beside those that every script may."""
PREFLIGHT_MAX_AGE_S = 600
_HEADER_NAMES = re.compile(rb"[A-Za-z0-9-]+( ?, ?[A-Za-z0-9-]+)*")


class CrossOrigin:
    """Grants what the pages of `EVERLOOP_CORS_ORIGINS` ask for, without credentials, which no service uses."""

    def __init__(self, origins: str) -> None:
        """`origins`: SCHEME://HOST[:PORT], separated by commas; empty grants nothing."""
        self.origins = frozenset(o.strip().lower().encode() for o in origins.split(",")) - {b""}

    def headers_for(self, origin: bytes | None) -> HeaderList:
        """What every answer to a page of this origin carries; `Vary` is said to all, as caches keep one answer."""
        if not self.origins:
            return []
        vary = [(b"vary", b"origin")]
        if origin is None or origin.lower() not in self.origins:
            return vary
        return [(b"access-control-allow-origin", origin), (b"access-control-expose-headers", EXPOSED), *vary]

    def preflight(self, headers: Mapping[bytes, bytes], methods: Sequence[str]) -> HeaderList | None:
        """What the answer to a preflight request adds; None where the request is none, or is not granted."""
        if headers.get(b"origin", b"").lower() not in self.origins or b"access-control-request-method" not in headers:
            return None
        asked = headers.get(b"access-control-request-headers", b"")
        return [
            (b"access-control-allow-methods", ", ".join(methods).encode()),
            *([(b"access-control-allow-headers", asked)] if _HEADER_NAMES.fullmatch(asked) else []),
            (b"access-control-max-age", b"%d" % PREFLIGHT_MAX_AGE_S),
        ]
