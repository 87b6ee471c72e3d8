"""Content encodings of bodies: gzip and deflate are decompressed within a limit, every other one is refused."""

from __future__ import annotations

import zlib

from everloop_shared.http.problems import BadRequest, ContentTooLarge, UnsupportedEncoding

IDENTITY = ("", "identity")
GZIP = ("gzip", "x-gzip")
DEFLATE = "deflate"
MAX_MEMBERS = 100
"""Members of one gzip body, at most: each costs a copy of the bytes that follow it."""
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 16 + zlib.MAX_WBITS, zlib.MAX_WBITS, -zlib.MAX_WBITS


def decode_body(body: bytes, coding: bytes, limit: int) -> bytes:
    """Decode a body; raises UnsupportedEncoding, BadRequest, or ContentTooLarge beyond `limit` decoded bytes.

    At most `limit` bytes are decompressed, so that a small body which becomes a large one costs no more than those.
    """
    name = coding.decode("latin-1").strip().lower()
    if name in IDENTITY:
        return body
    if name in GZIP:
        return _decompress(body, "gzip", _GZIP_BITS, limit)
    if name == DEFLATE:
        return _decompress(body, DEFLATE, _ZLIB_BITS if _has_zlib_header(body) else _RAW_BITS, limit)
    raise UnsupportedEncoding(f"the content encoding {name[:80]} is not supported; send gzip, deflate, or none")


def _decompress(body: bytes, name: str, bits: int, limit: int) -> bytes:
    parts, size, rest = list[bytes](), 0, body
    while rest:
        if parts and name == DEFLATE:
            raise BadRequest(f"{len(rest):,} bytes follow the end of the deflate body; send the body alone")
        if len(parts) == MAX_MEMBERS:
            raise BadRequest(f"the gzip body has more than {MAX_MEMBERS} members; send it as one")
        member = zlib.decompressobj(wbits=bits)
        try:
            parts.append(member.decompress(rest, limit + 1 - size))
        except zlib.error as e:
            raise BadRequest(f"the body is not {name}, although its content encoding says so: {e}") from e
        size += len(parts[-1])
        if size > limit:
            raise ContentTooLarge(f"the body is over {limit:,} bytes once decompressed; send it in smaller parts")
        if not member.eof:
            raise BadRequest(f"the {name} body ends too early")
        rest = member.unused_data
    return b"".join(parts)


def _has_zlib_header(body: bytes) -> bool:
    """Whether it begins as zlib's format (RFC 1950), which `deflate` means; some clients send it raw."""
    return len(body) > 1 and body[0] & 0x0F == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
