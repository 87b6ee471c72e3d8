"""What monitoring can refuse."""

from __future__ import annotations

from everloop_shared.errors import NotFound, NotYet


class LoopNotFound(NotFound):
    """Nobody has applied a loop of this name, or its state has not arrived here."""

    title = "Loop not found"


class UnknownLoop(NotYet):
    """An outcome of a loop whose state has not arrived."""
