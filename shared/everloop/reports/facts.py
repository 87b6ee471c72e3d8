"""Collects what the services answer about a loop; what an installation does not answer is left out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from everloop.errors import EverloopError, EverloopHTTPError
from everloop.wire import loop_path

Ask = Callable[[str, str], Any]
"""Asks a service for the JSON at a path; raises EverloopError."""
PARTS: dict[str, tuple[str, str]] = {
    "series": ("monitoring", "/series?limit=2000"),
    "timeline": ("monitoring", "/timeline?limit=200"),
    "evaluation": ("monitoring", "/evaluation"),
    "quality": ("monitoring", "/quality"),
    "features": ("monitoring", "/features"),
    "fairness": ("monitoring", "/fairness"),
    "alerts": ("monitoring", "/alerts?state=open"),
    "drifts": ("monitoring", "/drifts?limit=50"),
    "objectives": ("monitoring", "/objectives"),
    "importance": ("monitoring", "/importance"),
    "state": ("registry", ""),
    "versions": ("registry", "/versions"),
    "history": ("registry", "/history"),
    "runs": ("training", "/runs"),
}
"""By name of a part: the service that knows it, and where below the loop's path it answers."""
LETTERS = "letters"
LETTERS_SHOWN = 50


@dataclass(frozen=True)
class LoopFacts:
    """What is known of a loop: its status, and each part that was answered, None for one that was not."""

    loop: str
    status: Mapping[str, Any]
    parts: Mapping[str, Any] = field(default_factory=dict)

    def part(self, name: str) -> Any:
        """A part as it was answered; None where it was not."""
        return self.parts.get(name)

    def rows(self, name: str, of: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The rows of a part that is a list, or has one under a name; empty where it was not answered."""
        found = self.parts.get(name)
        if of is not None:
            found = found.get(of) if isinstance(found, Mapping) else None
        return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []


class FactCollector:
    """Asks for a loop's facts, again and again; what answered that there is no such address is not asked again.

    `ask` is for the status, which must be answered, and `ask_once` for the parts, without which there is a report too.
    """

    def __init__(self, ask: Ask, ask_once: Ask, loop: str, parts: Collection[str] = (*PARTS, LETTERS)) -> None:
        self._ask, self._ask_once, self._loop, self._parts = ask, ask_once, loop, list(parts)

    def collect(self) -> LoopFacts:
        """The facts now. Raises EverloopError where the loop's status is not answered."""
        status = self._ask("monitoring", loop_path(self._loop) + "/status")
        found, away = dict[str, Any](), set[str]()
        for name in list(self._parts):
            service = PARTS[name][0] if name in PARTS else "monitoring"
            found[name] = None if service in away else self._ask_part(name, away)
        return LoopFacts(self._loop, status, found)

    def _ask_part(self, name: str, away: set[str]) -> Any:
        service, path = PARTS.get(name, ("monitoring", f"/v1/dead-letters?loop={self._loop}&limit={LETTERS_SHOWN}"))
        try:
            found = self._ask_once(service, loop_path(self._loop) + path if name in PARTS else path)
            return found["dead_letters"] if name == LETTERS else found
        except EverloopHTTPError as e:
            if e.status == 404:
                self._parts.remove(name)
        except EverloopError:
            away.add(service)
        return None


def is_error(status: Mapping[str, Any], facts: LoopFacts | None = None) -> bool:
    """Whether the scores of `accuracy` are errors, of which less is better: those of a regression."""
    evaluation = facts.part("evaluation") if facts else None
    metric = status.get("metric", {}).get("name")
    return (evaluation or {}).get("line_metric") == "mae" or metric in ("mae", "rmse", "r2", "mape", "pinball")
