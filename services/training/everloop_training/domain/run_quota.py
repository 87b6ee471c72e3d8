"""How many runs, and how many searches, people may request per hour: of a loop, and all people of a team together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import NamedTuple

from everloop_shared.access.teams import TeamQuotas, without_quotas
from everloop_training.errors import TooManyRuns

HOUR = timedelta(hours=1)
MOST_REMEMBERED = 50_000
"""Requests of teams that are remembered, of all teams together; the first ones are forgotten first."""


class Requested(NamedTuple):
    """What a person requested: its key, and when."""

    key: str
    time: datetime


class TeamRequest(NamedTuple):
    """Which team requested something, and when."""

    team: str
    time: datetime


class RunQuota:
    """Counts what people requested within the last hour, and the requests that are still being handled.

    What teams requested is known from the events on the log, so that it is the same in every replica and after a
    restart; it stays counted when its loop is deleted.
    """

    def __init__(self, max_per_hour: int, what: str = "runs", team_quotas: TeamQuotas = without_quotas) -> None:
        self._max_per_hour, self._what, self._team_quotas = max_per_hour, what, team_quotas
        self._in_progress: Counter[str] = Counter()
        self._of_teams: dict[str, TeamRequest] = {}
        self._teams_in_progress: Counter[str] = Counter()

    @property
    def name(self) -> str:
        """The name of the quota of teams."""
        return f"{self._what}_per_hour"

    @contextmanager
    def admit(
        self, loop: str, key: str, requested: Sequence[Requested], now: datetime, team: str | None = None
    ) -> Iterator[None]:
        """Count a request while it is handled; raises TooManyRuns, but not for a key that was requested before."""
        if not any(each.key == key for each in requested):
            self._require_room(loop, requested, now)
            if team is not None:
                self._require_room_of(team, now)
        counted = [(self._in_progress, loop), *([(self._teams_in_progress, team)] if team is not None else [])]
        for counter, name in counted:
            counter[name] += 1
        try:
            yield
        finally:
            for counter, name in counted:
                counter[name] -= 1
                counter += Counter()  # drops names at 0

    def add(self, team: str | None, name: str, time: datetime, now: datetime) -> None:
        """Count what a team has requested, once for each name; nothing where it was no team, or is over an hour ago."""
        if team is None or time <= now - HOUR:
            return
        self._of_teams.setdefault(name, TeamRequest(team, time))
        if len(self._of_teams) > MOST_REMEMBERED:
            del self._of_teams[next(iter(self._of_teams))]

    def by_team(self, now: datetime) -> Mapping[str, Sequence[datetime]]:
        """When each team requested something within the last hour, in order."""
        self._of_teams = {name: each for name, each in self._of_teams.items() if each.time > now - HOUR}
        found: dict[str, list[datetime]] = {}
        for each in self._of_teams.values():
            found.setdefault(each.team, []).append(each.time)
        return {team: sorted(times) for team, times in found.items()}

    def _require_room(self, loop: str, requested: Sequence[Requested], now: datetime) -> None:
        recent = sum(each.time > now - HOUR for each in requested)
        if recent + self._in_progress[loop] >= self._max_per_hour:
            raise TooManyRuns(
                f"{self._max_per_hour} {self._what} of {loop} were requested within an hour, the limit "
                f"(EVERLOOP_TRAINING_MAX_{self._what.upper()}_PER_HOUR); retry later, or use the key of one of them"
            )

    def _require_room_of(self, team: str, now: datetime) -> None:
        allowed = getattr(self._team_quotas(team), self.name)
        times = self.by_team(now).get(team, ())
        used = len(times) + self._teams_in_progress[team]
        if allowed is None or used < allowed:
            return
        refused = TooManyRuns(
            f"team {team} requested {used:,} {self._what} of {allowed:,} within an hour (quota {self.name}); retry "
            f"later, or have {self.name} raised for {team} under teams in the file of keys (EVERLOOP_AUTH_KEYS)"
        )
        if times:
            room_at = times[max(0, len(times) - allowed)] + HOUR if allowed else now + HOUR
            refused.retry_after = max(1.0, (room_at - now).total_seconds())
        raise refused
