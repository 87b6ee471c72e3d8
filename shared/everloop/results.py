"""The answers of the services, as values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from everloop_schemas.envelope import Scalar


@dataclass(frozen=True)
class RejectedEntry:
    """An entry of a list that was refused: its position, its id, and why, as (field, error) pairs.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     answer = everloop.publish("market", [{"id": "a", "data": {"price": 3.0}}, {"id": "b", "data": {}}])
    >>> [(entry.index, entry.id, entry.errors[0][0]) for entry in answer.rejected]
    [(1, 'b', 'data.price')]
    """

    index: int
    id: str | None
    errors: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Accepted:
    """The ids of what is stored on the log now, and the entries that were refused.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     answer = everloop.publish("market", {"price": 3.0}, id="order-17")
    >>> answer.accepted, answer.ids, answer.rejected
    (1, ('order-17',), ())
    """

    ids: tuple[str, ...]
    rejected: tuple[RejectedEntry, ...] = ()

    @property
    def accepted(self) -> int:
        """How many entries were accepted."""
        return len(self.ids)


@dataclass(frozen=True)
class Explanation:
    """What each feature contributed to a prediction: `base` and `contributions` sum to the model's score.

    `scale` says what the score is: the `probability` of the class `of`, its `log_odds`, its `margin` (what goes into
    Softmax), or the `value`.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     answer = everloop.predict("market", {"price": 3.0}, explain=True)
    >>> answer.explanation.contributions
    {'price': 0.0}
    """

    method: str
    of: str | None
    base: float
    contributions: dict[str, float]
    scale: str | None = None

    @property
    def score(self) -> float:
        """What the base and the contributions sum to."""
        return self.base + sum(self.contributions.values())


@dataclass(frozen=True)
class Prediction:
    """A prediction. Labels and feedback name its `id`; `role` is baseline, champion or canary.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     answer = everloop.predict("market", {"price": 3.0}, id="order-17")
    >>> answer.id, answer.prediction, answer.version, answer.role
    ('order-17', True, '0', 'baseline')
    """

    id: str
    prediction: Scalar
    version: str
    role: str
    probabilities: dict[str, float] | None = None
    features: dict[str, Scalar | None] = field(default_factory=dict)
    anomaly: float | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True)
class Submitted:
    """The version that a submitted model has become; `new` is False where the same model was one already.

    It challenges the champion on the outcomes to come: `run` is shown among the loop's runs, `line` in its challenge.

    >>> from everloop import Everloop
    >>> with Everloop() as everloop:
    ...     submitted = everloop.submit("market", MODEL, name="forest", metrics={"accuracy": 0.8})
    >>> submitted.version, submitted.line, submitted.new
    ('forest-1@0', 'forest-1', True)
    """

    loop: str
    version: str
    line: str
    run: str
    sha256: str
    size: int
    new: bool
