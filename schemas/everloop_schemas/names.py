"""Valid names of loops, versions, fields, events and entities, the same at every endpoint; imports no large library."""

from __future__ import annotations

import re

LOOP_NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
LOOP_NAME_RULE = "must be lower-case letters, digits, - and _, beginning with a letter or digit, 63 at most"
FIELD_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,62}$"
ID_LIMIT = 256
ID_RULE = f"text of 1 to {ID_LIMIT} characters, without control characters, or white space at its ends"

_LOOP = re.compile(LOOP_NAME)
_VERSION = re.compile(r"[a-z0-9][a-z0-9._-]{0,150}@\d{1,19}", re.ASCII)
_ID = re.compile(rf"(?!\s)[^\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]{{1,{ID_LIMIT}}}(?<!\s)")


def is_loop_name(name: object) -> bool:
    """Whether a loop may have this name."""
    return isinstance(name, str) and _LOOP.fullmatch(name) is not None


def is_version_name(name: str) -> bool:
    """Whether this is the name of a version, `<line>@<offset>`."""
    return _VERSION.fullmatch(name) is not None


def is_id(name: object) -> bool:
    """Whether an event or an entity may have this id: it can be shown, stored, and used in a URL."""
    return isinstance(name, str) and _ID.fullmatch(name) is not None
