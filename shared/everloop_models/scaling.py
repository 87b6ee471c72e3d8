"""Robust scaling, which a few outliers cannot ruin: of columns of numbers, and of a regression's target."""

from __future__ import annotations

from math import sqrt

FIRST_VALUES = 32
"""Values that are kept to find the first scale; after them the scale is a running one."""
MIN_VALUES = 8
"""With fewer values than this nothing counts as far out."""
FAR_OUT_SCALES = 20.0
"""A value further from the centre than this many scales is far out: it does not move the scale."""
FAR_OUT_VALUE = 3.0
"""The scaled value of what is far out: its sign is the side it lies on."""
LARGEST = 1e100
"""A number beyond this counts as this, so that squares and sums stay finite."""
VALUES_PER_FAR_OUT = 15
"""One value in this many may be far out; where more are, the scale itself has changed and is learned again."""

State = tuple[float, float, float, int, int, list[float] | None]


class Column:
    """Centre and scale of one stream of finite numbers.

    The first `FIRST_VALUES` values give a median and the spread between the quartiles, which outliers do not move
    unless they are a quarter. From then on mean and variance are running ones, of what is not far out. With a scale of
    0 (all values equal) every other value is far out.
    """

    __slots__ = ("centre", "count", "far_out", "first_values", "reach", "scale", "variance")

    def __init__(self) -> None:
        self.count = self.far_out = 0
        self.centre = self.variance = self.scale = self.reach = 0.0
        self.first_values: list[float] | None = []

    def learn(self, value: float) -> None:
        """Learn one finite number."""
        if self.first_values is not None:
            self._learn_first(self.first_values, value)
            return
        away = value - self.centre
        if away > self.reach or away < -self.reach:
            self.far_out += VALUES_PER_FAR_OUT
            if self.far_out > VALUES_PER_FAR_OUT * VALUES_PER_FAR_OUT:
                self.first_values, self.far_out = [], 0
            return
        if self.far_out:
            self.far_out -= 1
        self.count += 1
        step = away / self.count
        self.centre += step
        self.variance += (away * (away - step) - self.variance) / self.count
        self.scale = scale = sqrt(self.variance)
        self.reach = FAR_OUT_SCALES * scale

    def scaled(self, value: float) -> float:
        """How many scales a finite number lies from the centre; 0 before there is any scale."""
        away = value - self.centre
        if -self.reach < away < self.reach:
            return away / self.scale
        if not away or self.count < MIN_VALUES:
            return 0.0
        return FAR_OUT_VALUE if away > 0 else -FAR_OUT_VALUE

    def limited(self, value: float) -> float:
        """The number itself, or the edge of what is not far out; whatever it is while there is no scale."""
        away = value - self.centre
        if -self.reach <= away <= self.reach or not self.scale or self.count < MIN_VALUES:
            return value
        return self.centre + (self.reach if away > 0 else -self.reach)

    def _learn_first(self, first: list[float], value: float) -> None:
        first.append(min(max(value, -LARGEST), LARGEST))
        n = len(first)
        if n < FIRST_VALUES <= self.count:
            return  # learned again: the old scale stays until the new one is complete
        values = sorted(first)
        self.centre = values[n // 2]
        self.scale = self._spread(values)
        self.variance, self.reach = self.scale**2, FAR_OUT_SCALES * self.scale
        self.count = n
        if n == FIRST_VALUES:
            self.first_values = None

    def _spread(self, values: list[float]) -> float:
        """Between the quartiles; where half of all are equal, the deviation without a sixteenth at either end."""
        n = len(values)
        return (values[3 * n // 4] - values[n // 4]) / 1.349 or _deviation(values[n // 16 : n - n // 16])

    def __getstate__(self) -> State:
        first = None if self.first_values is None else list(self.first_values)
        return self.centre, self.scale, self.variance, self.count, self.far_out, first

    def __setstate__(self, state: State) -> None:
        self.centre, self.scale, self.variance, self.count, self.far_out, self.first_values = state
        self.reach = FAR_OUT_SCALES * self.scale


class RobustScaler:
    """Columns of numbers by name, each on its own scale."""

    __slots__ = ("_columns",)

    def __init__(self) -> None:
        self._columns: dict[str, Column] = {}

    def learn_one(self, x: dict[str, float]) -> None:
        """Learn one observation's numbers."""
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
            if column is None:
                found[name] = 0.0
                continue
            away, reach = value - column.centre, column.reach
            found[name] = away / column.scale if -reach < away < reach else column.scaled(value)
        return found

    def centre_of(self, name: str, otherwise: float) -> float:
        """The centre of a column; `otherwise` for one never seen."""
        column = self._columns.get(name)
        return otherwise if column is None else column.centre

    def __getstate__(self) -> dict[str, Column]:
        return self._columns

    def __setstate__(self, state: dict[str, Column]) -> None:
        self._columns = state


class ValueClipper(RobustScaler):
    """For models that need no scale: numbers stay as they are, except those far out, which are clipped."""

    __slots__ = ()

    def transform_one(self, x: dict[str, float]) -> dict[str, float]:
        """The numbers, clipped at the edge of what is not far out in their column."""
        columns = self._columns
        return {name: columns[name].limited(value) if name in columns else value for name, value in x.items()}


class TargetColumn(Column):
    """A target's centre and scale. Two different labels are enough for a scale, so that rare ones can be predicted."""

    __slots__ = ()

    def learn(self, value: float) -> None:
        """Learn one finite label."""
        if self.first_values is None and not self.scale and value != self.centre:
            self.first_values, self.count = [self.centre] * (FIRST_VALUES // 2), 0
        super().learn(value)

    def _spread(self, values: list[float]) -> float:
        return super()._spread(values) or _deviation(values)


class Target:
    """A regression's labels, clipped where they are far out: an outlier costs one step, not the model.

    With `scaled` they are learned on their own scale, as a linear model needs it.
    """

    __slots__ = ("_column", "_scaled")

    def __init__(self, scaled: bool) -> None:
        self._scaled, self._column = scaled, TargetColumn()

    def learn(self, label: float) -> None:
        """Learn one finite label."""
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
