"""What the decisions about one entity say of its erasures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided


@dataclass(frozen=True)
class Erasure:
    """One erasure: asked for by `decided` (None where the spec's retention was the cause), done with `confirmed`."""

    decided: ErasureDecided | None
    confirmed: ErasureConfirmed | None


Decisions = Sequence[ErasureDecided | ErasureConfirmed]
"""Those about one entity, in order."""


def erasures_of(decisions: Decisions) -> list[Erasure]:
    """The erasures, oldest first."""
    done = {d.data.decision: d for d in decisions if isinstance(d, ErasureConfirmed) and d.data.decision is not None}
    found = list[Erasure]()
    for decision in decisions:
        if isinstance(decision, ErasureDecided):
            found.append(Erasure(decision, done.get(decision.sequence)))
        elif decision.data.decision is None:
            found.append(Erasure(None, decision))
    return found


def find_pending(decisions: Decisions) -> ErasureDecided | None:
    """The erasure that was asked for and is not done; None where there is none."""
    return next((one.decided for one in erasures_of(decisions) if one.decided and one.confirmed is None), None)


def is_confirmed(decisions: Decisions, receipt: str) -> bool:
    """Whether the receipt with this id was taken in before."""
    return any(isinstance(d, ErasureConfirmed) and d.causationid == receipt for d in decisions)
