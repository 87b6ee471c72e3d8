"""What the learners answer to a request for a run."""

from __future__ import annotations

from typing import NamedTuple

from everloop_schemas.training import RunRequested


class RunReply(NamedTuple):
    """The run, or None where none starts; `behind` where the learners have yet to learn the outcomes it is about."""

    run: RunRequested | None
    behind: bool = False
