"""Content encodings of bodies: gzip is decompressed within a limit, every other one is refused."""

from __future__ import annotations

import zlib

from everloop_shared.http.problems import BadRequest, ContentTooLarge, UnsupportedMediaType

IDENTITY = ("", "identity")
GZIP = ("gzip", "x-gzip")
MAX_MEMBERS = 100
"""Members of one gzip body, at most: each costs a copy of the bytes that follow it."""


def decode_body(body: bytes, coding: bytes, limit: int) -> bytes:
    """Decode a body; raises UnsupportedMediaType, BadRequest, or ContentTooLarge beyond `limit` bytes."""
    name = coding.decode("latin-1").strip().lower()
    if name in IDENTITY:
        return body
    if name not in GZIP:
        raise UnsupportedMediaType(f"the content encoding {name[:80]} is not supported; send gzip, or none")
    return _decompress(body, limit)


def _decompress(body: bytes, limit: int) -> bytes:
    plain, rest, members = b"", body, 0
    while rest:
        members += 1
        if members > MAX_MEMBERS:
            raise BadRequest(f"the gzip body has more than {MAX_MEMBERS} members; send it as one")
        member = zlib.decompressobj(wbits=31)
        try:
            plain += member.decompress(rest, limit + 1 - len(plain))
        except zlib.error as e:
            raise BadRequest(f"the body is not gzip, although its content encoding says so: {e}") from e
        if len(plain) > limit:
            raise ContentTooLarge(f"the body is over {limit:,} bytes once decompressed; send it in smaller parts")
        if not member.eof:
            raise BadRequest("the gzip body ends too early")
        rest = member.unused_data
    return plain
