"""A River estimator as an online model: predicts from named features, learns from a label, always finite."""

from __future__ import annotations

from math import isfinite
from typing import Any, ClassVar

from everloop_metrics import class_name
from everloop_models.encoding import Encoder
from everloop_models.errors import ModelBroken
from everloop_models.explain.attribution import Attribution
from everloop_models.model import ModelPrediction
from everloop_models.scaling import FIRST_VALUES, Target, ValueClipper
from everloop_schemas.envelope import Fields, Scalar

Columns = dict[str, float]


class RiverModel:
    """An estimator with its encoder, the scaler of its numeric columns, and for a regression that of its labels.

    `default` is what it predicts before it has learned any label. The first `FIRST_VALUES` observations are learned
    twice: once as they arrive, and then by a new estimator, when it is known which of their values are far out.
    """

    format: ClassVar[str] = "river"

    def __init__(self, estimator: Any, *, default: Scalar, scaler: Any, target: Target | None = None) -> None:
        self.estimator, self.scaler, self.target, self.default = estimator, scaler, target, default
        self.encoder = Encoder()
        self._labels: dict[Scalar, Scalar] = {}
        self._probabilistic = True
        self._early: list[tuple[Columns, Columns, Scalar]] | None = []

    @property
    def regression(self) -> bool:
        """Whether labels are numbers to come close to."""
        return self.target is not None

    @property
    def signature(self) -> tuple[str, ...]:
        """The sorted names of the features it has learned from."""
        return self.encoder.names

    def predict(self, features: Fields) -> ModelPrediction:
        """The prediction for these features; raises ModelBroken where it is not finite or the estimator fails."""
        try:
            return self._predict(self._columns(features))
        except ModelBroken:
            raise
        except Exception as e:
            raise ModelBroken(f"predicting failed: {e!r}") from e

    @property
    def has_attribution(self) -> bool:
        """Whether the estimator is a linear model, a Hoeffding tree or a forest of them."""
        from everloop_models.formats.river.attribution import FAMILIES

        return isinstance(self.estimator, FAMILIES)

    def attribute(self, features: Fields, value: Scalar) -> Attribution | None:
        """What each feature contributed to the score of `value`; None for models of other families than these."""
        # Imported here, as only those who explain need it.
        from everloop_models.formats.river.attribution import attribute, usual_numbers

        if not self._labels and self.target is None:
            return None
        numbers, _ = self.encoder.encode(features)
        usual = usual_numbers(self.scaler, numbers)
        x = self._columns(features)
        found = attribute(self.estimator, x, value, self.target, self.scaler.transform_one(usual))
        if found is None:
            return None
        method, score, scale, said, parts = found
        contributions = dict.fromkeys(features, 0.0)
        for column, share in parts.columns.items():
            name = column if column in features else self.encoder.feature_of(column)
            contributions[name] = contributions.get(name, 0.0) + share
        return Attribution(method, score, parts.base, contributions, scale, said)

    def reference(self, features: Fields) -> Fields:
        """The centre of each number's scale; of a text, none."""
        from everloop_models.formats.river.attribution import usual_numbers

        numbers, _ = self.encoder.encode(features)
        return {**dict.fromkeys(features), **usual_numbers(self.scaler, numbers)}

    def learn(self, features: Fields, label: Scalar) -> None:
        """Learn one label; raises ModelBroken where the estimator fails."""
        try:
            self.encoder.learn(features)
            self._learn(features, label)
        except Exception as e:
            raise ModelBroken(f"learning failed: {e!r}") from e

    def _learn(self, features: Fields, label: Scalar) -> None:
        numbers, hot = self.encoder.encode(features)
        self.scaler.learn_one(numbers)
        if self.target is not None:
            self.target.learn(label := float(label))
        else:
            label = self._labels.setdefault(label, label)
        self._teach(numbers, hot, label)
        if self._early is not None:
            self._early.append((numbers, hot, label))
            if len(self._early) == FIRST_VALUES:
                self._start_over(self._early)

    def _teach(self, numbers: Columns, hot: Columns, label: Scalar) -> None:
        x = self.scaler.transform_one(numbers)
        if hot:
            x.update(hot)
        self.estimator.learn_one(x, label if self.target is None else self.target.inward(float(label)))

    def _start_over(self, early: list[tuple[Columns, Columns, Scalar]]) -> None:
        self.estimator, self._early = self.estimator.clone(), None
        for numbers, hot, label in early:
            self._teach(numbers, hot, label)

    def _columns(self, features: Fields) -> Columns:
        numbers, hot = self.encoder.encode(features)
        x: Columns = self.scaler.transform_one(numbers)
        if hot:
            x.update(hot)
        return x

    def __setstate__(self, state: dict[str, Any]) -> None:
        if "regression" in state:  # an artifact of a release that did not clip values: they are clipped from now on
            target = Target(scaled=False) if state.pop("regression") else None
            state |= {"target": target, "scaler": state["scaler"] or ValueClipper(), "_early": None}
        self.__dict__.update(state)

    def _predict(self, x: dict[str, float]) -> ModelPrediction:
        if not self._labels and self.target is None:
            return ModelPrediction(self.default, None)
        if self.target is not None:
            value = self.target.outward(float(self.estimator.predict_one(x)))
            if not isfinite(value):
                raise ModelBroken(f"the prediction is {value}")
            return ModelPrediction(value, None)
        if self._probabilistic:
            try:
                return self._most_likely(self.estimator.predict_proba_one(x))
            except NotImplementedError:
                self._probabilistic = False
        value = self.estimator.predict_one(x)
        return ModelPrediction(self.default if value is None else value, None)

    def _most_likely(self, raw: dict[Scalar, float]) -> ModelPrediction:
        total = sum(raw.values())
        if not isfinite(total):
            raise ModelBroken("a probability is not finite")
        if total <= 0:
            return ModelPrediction(self.default, None)
        best = max(raw, key=raw.__getitem__)
        whole = 1.0 if abs(total - 1) < 1e-9 else total
        return ModelPrediction(best, {class_name(k): float(p) / whole for k, p in raw.items()})
