"""What a door answers that the memory bus cannot serve."""

from __future__ import annotations

from everloop_shared.errors import Disposition, EverloopError, NotFound


class MemoryBusFull(EverloopError):
    """The bus holds as much as it may, and it forgets nothing: trying again will not help."""

    http_status = 507
    disposition = Disposition.RETRY
    title = "The memory bus is full"


class TopicNotFound(NotFound):
    """No topic has this name."""

    title = "Topic not found"
