"""What the gate requires of challengers by themselves, measured on the predictions that their losses are of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from everloop_learning.outcome import Outcome
from everloop_metrics.fairness import measure, rate
from everloop_metrics.measure_window import LinePrediction, LineSums, MeasureWindow
from everloop_models.model import ModelPrediction
from everloop_schemas.conditions import Condition
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import Measured

MAX_LINES = 40
"""More than a loop has at work at once."""


class RequiredMeasures:
    """The measures of one loop's `gate.require`, by line, over the latest outcomes; nothing where there are none.

    Each prediction was made before its label was learned, and outcomes that started a run do not count for its line, as
    for its losses. A line keeps its window when it has a new model: it is judged as what it is, and its losses are.
    """

    def __init__(self, spec: LoopSpec) -> None:
        self.window: MeasureWindow | None = None
        self._required: tuple[str, ...] = ()
        self.follow(spec)

    def follow(self, spec: LoopSpec) -> None:
        """Measure what this spec requires; what was measured is dropped where it asks for something else."""
        required = tuple(dict.fromkeys(Condition.parse(text).measure for text in spec.gate.require))
        if required == self._required:
            return
        self._required = required
        parsed = [Condition.parse(text) for text in spec.gate.require]
        fields = tuple(dict.fromkeys(named.fairness[0] for named in parsed if named.fairness))
        metrics = tuple(dict.fromkeys(named.measure for named in parsed if not named.fairness))
        self.window = MeasureWindow(fields, metrics, max_lines=MAX_LINES) if required else None

    @property
    def is_on(self) -> bool:
        """Whether the spec requires anything."""
        return self.window is not None

    def add(self, outcome: Outcome, predictions: Mapping[str, ModelPrediction]) -> None:
        """Add what lines predicted for an outcome that they have just learned."""
        if self.window is None or outcome.label is None:
            return
        made = [LinePrediction(line, each.value, each.probabilities) for line, each in predictions.items()]
        self.window.begin_outcome(outcome.offset, outcome.features)
        self.window.add(outcome.offset, outcome.features, outcome.label, made)

    def measured(self, lines: Iterable[str]) -> dict[str, dict[str, Measured]]:
        """What is required, as these lines have it now, by line and measure."""
        if self.window is None:
            return {}
        sums = {line: self.window.sums_of(line) for line in lines}
        return {line: {name: _measured(name, of) for name in self._required} for line, of in sums.items()}


def _measured(name: str, sums: LineSums) -> Measured:
    fairness = Condition.parse(f"{name} <= 0").fairness
    if fairness:
        found = measure(fairness[1], sums.fields.get(fairness[0], {}))
        return Measured(value=found.value, outcomes=found.outcomes, low=found.low, high=found.high)
    of_metric = sums.metrics.get(name)
    value = of_metric.score(name) if of_metric else None
    if name != "accuracy" or value is None:
        return Measured(value=value, outcomes=sums.outcomes)
    found = rate(round(value * sums.outcomes), sums.outcomes)
    return Measured(value=value, outcomes=sums.outcomes, low=found.low, high=found.high)
