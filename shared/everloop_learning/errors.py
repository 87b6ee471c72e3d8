"""The two errors about a loop: a request names one that does not exist, or a record precedes its loop's state."""

from __future__ import annotations

from everloop_shared.errors import NotFound, RetryLater

NAME_LENGTH = 80
"""Characters of a loop's name that an error repeats; requests may name anything."""


class LoopNotFound(NotFound):
    """A request names a loop that was never applied, or was deleted, or did not exist at the time asked for."""

    title = "Loop not found"

    def __init__(self, loop: str, *, deleted: bool = False, as_of: str | None = None) -> None:
        name = repr(loop[:NAME_LENGTH])
        if as_of is not None:
            detail = f"there was no loop {name} at {as_of}"
        elif deleted:
            detail = (
                f"loop {name} was deleted; the registry's /v1/loops/{loop}/history says when, "
                "and applying it again (everloop apply -f FILE) starts from nothing"
            )
        else:
            detail = f"there is no loop {name}; apply it first: everloop apply -f FILE"
        super().__init__(detail)


class LoopNotKnownYet(RetryLater):
    """A record belongs to a loop, or to a revision of it, whose state has not arrived in this process: it is retried.

    After `give_up_after` seconds it becomes a dead letter.
    """

    title = "Loop not known yet"

    def __init__(self, loop: str, revision: int = 0, give_up_after: float = 15.0) -> None:
        which = f"revision {revision} of loop" if revision else "loop"
        super().__init__(f"{which} {loop[:NAME_LENGTH]!r} is not known to this process yet")
        self.give_up_after = give_up_after
