"""What a client requires of the loop's current revision before its file is applied; pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from everloop_registry.errors import InvalidPrecondition, PreconditionFailed
from everloop_shared.errors import FieldError

ANY = "*"
_TAG = r'(?:W/)?"[\x21\x23-\x7e]*"'
_TAGS = re.compile(rf"\s*{_TAG}\s*(?:,\s*{_TAG}\s*)*")


@dataclass(frozen=True)
class Precondition:
    """The entity tags of `If-Match` and `If-None-Match` (RFC 9110, 13.1); None where the header is not given."""

    match: frozenset[str] | None = None
    none_match: frozenset[str] | None = None

    def require(self, revision: int | None, *, is_unchanged: bool) -> None:
        """Raises PreconditionFailed for a loop at this revision; None where there is no such loop.

        `is_unchanged` says that the loop has the file's spec already: then the one before may be named as well, as a
        request that is repeated after its answer was lost names it.
        """
        tag = None if revision is None else tag_of(revision)
        allowed = {tag, ANY} if tag else set()
        if is_unchanged and revision is not None:
            allowed.add(tag_of(revision - 1))
        if self.match is not None and not self.match & allowed:
            now = f"its revision is {revision}, and its ETag {tag}" if tag else "there is no such loop"
            raise PreconditionFailed(f"If-Match names {_listed(self.match)}; {now}. Read the loop again, then apply")
        if self.none_match is not None and tag and self.none_match & {tag, f"W/{tag}", ANY}:
            raise PreconditionFailed(f"If-None-Match names {_listed(self.none_match)}, and the loop is at ETag {tag}")


def tag_of(revision: int) -> str:
    """The entity tag of a loop: the revision of its spec."""
    return f'"{revision}"'


def read_tags(header: str, values: list[str]) -> frozenset[str] | None:
    """The tags of a header; weak ones keep their `W/`, as they match nothing in `If-Match`.

    Raises InvalidPrecondition.
    """
    if not values:
        return None
    text = ",".join(values)
    if text.strip() == ANY:
        return frozenset((ANY,))
    if not _TAGS.fullmatch(text):
        wrong = FieldError(header, 'must be ETags in quotes, such as "3", separated by commas, or *')
        raise InvalidPrecondition(f"{wrong.field} {wrong.error}", [wrong])
    return frozenset(re.findall(_TAG, text))


def _listed(tags: frozenset[str]) -> str:
    return ", ".join(sorted(tags))[:200]
