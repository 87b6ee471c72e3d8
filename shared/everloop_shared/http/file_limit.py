"""The limit of the process on file descriptors, of which each connection takes one."""

from __future__ import annotations

import contextlib
import resource

WANTED_FILE_DESCRIPTORS = 8192


def raise_file_limit() -> int:
    """Raise the limit on file descriptors, as each client holds one and 1,024 are few; returns the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, WANTED_FILE_DESCRIPTORS)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return WANTED_FILE_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]
