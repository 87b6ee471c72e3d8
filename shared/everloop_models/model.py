"""A model as everybody uses it: predict from named features, learn from a label, always finite."""

from __future__ import annotations

from math import isfinite
from typing import Any, NamedTuple

from everloop_models.encoding import Encoder
from everloop_models.errors import ModelBroken
from everloop_schemas.envelope import Fields, Scalar


class Prediction(NamedTuple):
    """A value of the label's type, and for classes the probability of each by its name (None where unknown)."""

    value: Scalar
    probabilities: dict[str, float] | None


def class_name(label: Scalar) -> str:
    """A class as a key of `probabilities`: as JSON writes it, text without quotes."""
    return ("true" if label else "false") if isinstance(label, bool) else str(label)


class Model:
    """A river estimator with its encoder and, where asked for, a scaler of the numeric columns.

    `default` is what it predicts before it has learned any label. One thread at a time.
    """

    def __init__(self, estimator: Any, *, regression: bool, default: Scalar, scaler: Any = None) -> None:
        self.estimator, self.scaler = estimator, scaler
        self.regression, self.default = regression, default
        self.encoder = Encoder()
        self._labels: dict[Scalar, Scalar] = {}
        self._probabilistic = True

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features it has learned from."""
        return self.encoder.names

    def predict(self, features: Fields) -> Prediction:
        """What it says of these features; raises ModelBroken where that is not finite or the estimator fails."""
        try:
            return self._predict(self._columns(features))
        except ModelBroken:
            raise
        except Exception as e:
            raise ModelBroken(f"predicting failed: {e!r}") from e

    def learn(self, features: Fields, label: Scalar) -> None:
        """Learn one label; raises ModelBroken where the estimator fails."""
        try:
            self.encoder.learn(features)
            self._learn(features, label)
        except Exception as e:
            raise ModelBroken(f"learning failed: {e!r}") from e

    def _learn(self, features: Fields, label: Scalar) -> None:
        if self.scaler is None:
            x = self._columns(features)
        else:
            numbers, hot = self.encoder.encode(features)
            self.scaler.learn_one(numbers)
            x = self.scaler.transform_one(numbers)
            x.update(hot)
        if self.regression:
            self.estimator.learn_one(x, float(label))
        else:
            self.estimator.learn_one(x, self._labels.setdefault(label, label))

    def _columns(self, features: Fields) -> dict[str, float]:
        x, hot = self.encoder.encode(features)
        if self.scaler is not None:
            x = self.scaler.transform_one(x)
        if hot:
            x.update(hot)
        return x

    def _predict(self, x: dict[str, float]) -> Prediction:
        if not self._labels and not self.regression:
            return Prediction(self.default, None)
        if self.regression:
            value = float(self.estimator.predict_one(x))
            if not isfinite(value):
                raise ModelBroken(f"the prediction is {value}")
            return Prediction(value, None)
        if self._probabilistic:
            try:
                return self._most_likely(self.estimator.predict_proba_one(x))
            except NotImplementedError:
                self._probabilistic = False
        value = self.estimator.predict_one(x)
        return Prediction(self.default if value is None else value, None)

    def _most_likely(self, raw: dict[Scalar, float]) -> Prediction:
        total = sum(raw.values())
        if not isfinite(total):
            raise ModelBroken("a probability is not finite")
        if total <= 0:
            return Prediction(self.default, None)
        best = max(raw, key=raw.__getitem__)
        whole = 1.0 if abs(total - 1) < 1e-9 else total
        return Prediction(best, {class_name(k): float(p) / whole for k, p in raw.items()})
