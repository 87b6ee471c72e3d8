"""Corrections and disputes of a loop's labels: counts, their moving rate, and an alert when the rate is high."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ContradictionParameters:
    """When the rate of contradictions raises an alert.

    `newest_weight` is the weight of the newest outcome or contradiction in the moving rate, a share. An alert is
    raised at a rate of `alert_rate`, and again only after the rate was below `calm_rate`. Counts are kept for
    `max_sources` sources, by names cut to `max_source_characters`.
    """

    newest_weight: float = 0.01
    alert_rate: float = 0.2
    calm_rate: float = 0.05
    max_sources: int = 20
    max_source_characters: int = 80


PARAMETERS = ContradictionParameters()


@dataclass(slots=True)
class Contradictions:
    """Counts of a loop: labels `changed` by others, feedback that `disputed` a label, and feedback that was not
    counted because its source had reached its share (`over_share`).

    `rate` is the moving share of contradictions among outcomes and contradictions; `by_source` counts them since the
    rate was low, `alert_raised` is set from an alert until the rate is low again.
    """

    changed: int = 0
    disputed: int = 0
    over_share: int = 0
    rate: float = 0.0
    alert_raised: bool = False
    by_source: dict[str, int] = field(default_factory=dict)

    def record_agreement(self) -> None:
        """Count an outcome that contradicts nothing."""
        self.rate *= 1 - PARAMETERS.newest_weight
        if self.rate < PARAMETERS.calm_rate and (self.alert_raised or self.by_source):
            self.alert_raised, self.by_source = False, {}

    def record(self, source: str) -> str | None:
        """Count a contradiction; the message of the alert that it raises, None where it raises none."""
        self.rate += PARAMETERS.newest_weight * (1 - self.rate)
        source = source[: PARAMETERS.max_source_characters]
        if source in self.by_source or len(self.by_source) < PARAMETERS.max_sources:
            self.by_source[source] = self.by_source.get(source, 0) + 1
        if self.alert_raised or self.rate < PARAMETERS.alert_rate:
            return None
        self.alert_raised = True
        most = max(self.by_source, key=lambda name: self.by_source[name])
        return (
            f"{self.rate:.0%} of the latest labels and feedback contradict earlier ones; {self.by_source[most]} of "
            f"{sum(self.by_source.values())} contradictions came from {most}"
        )
