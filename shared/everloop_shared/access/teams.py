"""Teams: whose quotas count what is asked for, and how much each team may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol

from pydantic import BaseModel, ConfigDict, Field

from everloop_shared.access.limits import LARGEST

EVERY_OTHER_TEAM = "*"
"""In the file of keys, the quotas of teams that it does not name."""
TEAM_PATTERN = r"^[\w/][\w .@/:+-]{0,99}$"
TeamName = Annotated[str, Field(pattern=TEAM_PATTERN)]
Amount = Annotated[int | None, Field(ge=0, le=LARGEST)]


class TeamQuota(BaseModel):
    """How much one team may have; None is any amount.

    `feature_cost` is in microseconds per event, of all its loops together, with all windows full
    (`everloop_features.cost`).
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    loops: Amount = None
    feature_cost: Annotated[float | None, Field(ge=0, le=LARGEST)] = None
    runs_per_hour: Amount = None
    searches_per_hour: Amount = None


class TeamQuotas(Protocol):
    """Says how much a team may have, as it is now."""

    def __call__(self, team: str) -> TeamQuota: ...


def without_quotas(team: str) -> TeamQuota:
    """Any amount, for every team."""
    return TeamQuota()


def read_team(claims: Mapping[str, Any], path: str) -> str | None:
    """The team that a token claims; None where the claim is missing, names several, or is no name of a team."""
    found = find_claim(claims, path) if path else None
    if isinstance(found, list):
        found = found[0] if len(found) == 1 else None
    return found if isinstance(found, str) and re.fullmatch(TEAM_PATTERN, found) else None


def find_claim(claims: Mapping[str, Any], path: str) -> Any:
    """A claim; dots lead inside (`realm_access.roles`). One whose own name has dots, such as a URL, is found first."""
    found: Any = claims.get(path)
    if found is None:
        found = claims
        for name in path.split("."):
            found = found.get(name) if isinstance(found, Mapping) else None
    return found
