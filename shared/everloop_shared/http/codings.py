"""Content codings of bodies: gzip is inflated within bounds, every other one is refused by its name."""

from __future__ import annotations

import zlib

from everloop_shared.http.problems import BadRequest, TooLarge, UnsupportedType

PLAIN = ("", "identity")
GZIP = ("gzip", "x-gzip")
MAX_MEMBERS = 100


def decoded(body: bytes, coding: bytes, limit: int) -> bytes:
    """A body without its content coding; raises UnsupportedType, TooLarge beyond `limit` bytes, or BadRequest."""
    name = coding.decode("latin-1").strip().lower()
    if name in PLAIN:
        return body
    if name not in GZIP:
        raise UnsupportedType(f"the content encoding {name[:80]} is not read here; send gzip, or none")
    return _inflated(body, limit)


def _inflated(body: bytes, limit: int) -> bytes:
    plain, rest, members = b"", body, 0
    while rest:
        members += 1
        if members > MAX_MEMBERS:  # each costs a copy of all that is left
            raise BadRequest(f"the gzip body has more than {MAX_MEMBERS} members; send it as one")
        member = zlib.decompressobj(wbits=31)
        try:
            plain += member.decompress(rest, limit + 1 - len(plain))
        except zlib.error as e:
            raise BadRequest(f"the body is not gzip, as its content encoding says: {e}") from e
        if len(plain) > limit:
            raise TooLarge(f"the body is over {limit:,} bytes once inflated; send it in smaller parts")
        if not member.eof:
            raise BadRequest("the gzip body ends too early")
        rest = member.unused_data
    return plain
