"""Scales that a few wild values cannot ruin: columns of numbers, and a regression's target."""

from __future__ import annotations

from math import sqrt

SEED = 32
"""So many values are kept to tell what is usual, before the scale is a running one."""
ENOUGH = 8
"""With fewer values nothing is far out yet."""
LIMIT = 20.0
"""A value further from the centre than so many scales is far out: it does not move the scale."""
FAR = 3.0
"""Where a value that is far out is put: it says which side it lies on, not how far."""
LARGEST = 1e100
"""A number beyond this counts as this, so that squares and sums stay finite."""
RARE = 15
"""One value in so many may be far out; where it is more, the scale itself has changed and is learned anew."""

State = tuple[float, float, float, int, int, list[float] | None]


class Column:
    """Centre and scale of one stream of finite numbers.

    The first `SEED` values give a median and the spread between the quartiles, which outliers do not move unless they
    are a quarter. From then on mean and variance are running ones, of what is not far out. A scale of 0 (all values
    alike) makes whatever differs far out.
    """

    __slots__ = ("centre", "count", "reach", "scale", "seed", "strange", "variance")

    def __init__(self) -> None:
        self.count = self.strange = 0
        self.centre = self.variance = self.scale = self.reach = 0.0
        self.seed: list[float] | None = []

    def learn(self, value: float) -> None:
        """Take in one finite number."""
        if self.seed is not None:
            self._learn_seed(self.seed, value)
            return
        away = value - self.centre
        if away > self.reach or away < -self.reach:
            self.strange += RARE
            if self.strange > RARE * RARE:
                self.seed, self.strange = [], 0
            return
        if self.strange:
            self.strange -= 1
        self.count += 1
        step = away / self.count
        self.centre += step
        self.variance += (away * (away - step) - self.variance) / self.count
        self.scale = scale = sqrt(self.variance)
        self.reach = LIMIT * scale

    def scaled(self, value: float) -> float:
        """How many scales a finite number lies from the centre; 0 before there is any scale."""
        away = value - self.centre
        if -self.reach < away < self.reach:
            return away / self.scale
        if not away or self.count < ENOUGH:
            return 0.0
        return FAR if away > 0 else -FAR

    def limited(self, value: float) -> float:
        """The number itself, or the edge of what is not far out; whatever it is while there is no scale."""
        away = value - self.centre
        if -self.reach <= away <= self.reach or not self.scale or self.count < ENOUGH:
            return value
        return self.centre + (self.reach if away > 0 else -self.reach)

    def _learn_seed(self, seed: list[float], value: float) -> None:
        seed.append(min(max(value, -LARGEST), LARGEST))
        n = len(seed)
        if n < SEED <= self.count:
            return  # learned anew: the old scale stands until the new one is whole
        values = sorted(seed)
        self.centre = values[n // 2]
        self.scale = self._spread(values)
        self.variance, self.reach = self.scale**2, LIMIT * self.scale
        self.count = n
        if n == SEED:
            self.seed = None

    def _spread(self, values: list[float]) -> float:
        """Between the quartiles; where half of all are alike, the deviation without the sixteenth at either end."""
        n = len(values)
        return (values[3 * n // 4] - values[n // 4]) / 1.349 or _deviation(values[n // 16 : n - n // 16])

    def __getstate__(self) -> State:
        seed = None if self.seed is None else list(self.seed)
        return self.centre, self.scale, self.variance, self.count, self.strange, seed

    def __setstate__(self, state: State) -> None:
        self.centre, self.scale, self.variance, self.count, self.strange, self.seed = state
        self.reach = LIMIT * self.scale


class RobustScaler:
    """Columns of numbers by name, each on its own scale."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def learn_one(self, x: dict[str, float]) -> None:
        """Take in one observation's numbers."""
        columns = self._columns
        for name, value in x.items():
            column = columns.get(name)
            if column is None:
                column = columns[name] = Column()
            column.learn(value)

    def transform_one(self, x: dict[str, float]) -> dict[str, float]:
        """The numbers on their scales, each finite; 0 for a column never seen."""
        found, columns = {}, self._columns
        for name, value in x.items():
            column = columns.get(name)
            found[name] = 0.0 if column is None else column.scaled(value)
        return found

    def __getstate__(self) -> dict[str, Column]:
        return self._columns

    def __setstate__(self, state: dict[str, Column]) -> None:
        self._columns = state


class Limits(RobustScaler):
    """For models that need no scale: numbers stay as they are, but for those far out."""

    __slots__ = ()

    def transform_one(self, x: dict[str, float]) -> dict[str, float]:
        """The numbers, each at most at the edge of what is usual for its column."""
        columns = self._columns
        return {name: columns[name].limited(value) if name in columns else value for name, value in x.items()}


class TargetColumn(Column):
    """A target's centre and scale. Any two labels that differ give a scale, so that rare ones can be predicted."""

    __slots__ = ()

    def learn(self, value: float) -> None:
        """Take in one finite label."""
        if self.seed is None and not self.scale and value != self.centre:
            self.seed, self.count = [self.centre] * (SEED // 2), 0
        super().learn(value)

    def _spread(self, values: list[float]) -> float:
        return super()._spread(values) or _deviation(values)


class Target:
    """A regression's labels, kept within what is usual: one wild label costs one step, not the model.

    With `scaled` they are learned on their own scale, as a linear model needs it.
    """

    __slots__ = ("_column", "_scaled")

    def __init__(self, scaled: bool) -> None:
        self._scaled, self._column = scaled, TargetColumn()

    def learn(self, label: float) -> None:
        """Take in one finite label."""
        self._column.learn(label)

    def inward(self, label: float) -> float:
        """A label as the estimator learns it."""
        return self._column.scaled(label) if self._scaled else self._column.limited(label)

    def outward(self, value: float) -> float:
        """What the estimator predicts, as a label."""
        return self._column.centre + self._column.scale * value if self._scaled else value

    def __getstate__(self) -> tuple[bool, TargetColumn]:
        return self._scaled, self._column

    def __setstate__(self, state: tuple[bool, TargetColumn]) -> None:
        self._scaled, self._column = state


def _deviation(values: list[float]) -> float:
    mean = sum(values) / len(values)
    return sqrt(sum((v - mean) ** 2 for v in values) / len(values))
