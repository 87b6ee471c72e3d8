"""The errors of the memory bus."""

from __future__ import annotations

from everloop_shared.errors import Disposition, ErrorKind, NotFound, ServiceError


class MemoryBusFull(ServiceError):
    """The bus is at its limit, and it removes nothing: a retry will not help."""

    kind = ErrorKind.STORAGE_FULL
    disposition = Disposition.RETRY
    title = "The memory bus is full"


class TopicNotFound(NotFound):
    """No topic has this name."""

    title = "Topic not found"
