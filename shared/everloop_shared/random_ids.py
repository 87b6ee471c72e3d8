"""Random ids for requests and predictions, of which there are thousands a second."""

from __future__ import annotations

import os
from threading import local

from everloop_schemas.envelope import uuid_text

POOL_BYTES = 4_096


class _Pool(local):
    """Random bytes of the operating system, for each thread, asked for many at once: each question is a system call."""

    def __init__(self) -> None:
        self._bytes, self._used = b"", 0

    def take(self, count: int) -> bytes:
        """So many bytes that nobody had before."""
        start, self._used = self._used, self._used + count
        if self._used > len(self._bytes):
            self._bytes, start, self._used = os.urandom(POOL_BYTES), 0, count
        return self._bytes[start : self._used]

    def clear(self) -> None:
        """Forget them: the process that this one was forked from has the same."""
        self._bytes, self._used = b"", 0


_pool = _Pool()
os.register_at_fork(after_in_child=_pool.clear)  # only the thread that forks lives on in the child


def random_digits(count: int) -> str:
    """The hexadecimal digits of so many random bytes."""
    return _pool.take(count).hex()


def random_id() -> str:
    """A random UUID, version 4."""
    return uuid_text(_pool.take(16).hex(), "4")
