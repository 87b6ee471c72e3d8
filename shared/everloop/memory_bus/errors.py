"""What a door answers that the memory bus cannot serve."""

from __future__ import annotations

from everloop_shared.errors import Disposition, ErrorKind, NotFound, ServiceError


class MemoryBusFull(ServiceError):
    """The bus holds as much as it may, and it forgets nothing: trying again will not help."""

    kind = ErrorKind.STORAGE_FULL
    disposition = Disposition.RETRY
    title = "The memory bus is full"


class TopicNotFound(NotFound):
    """No topic has this name."""

    title = "Topic not found"
