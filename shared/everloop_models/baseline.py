"""Version 0: the running majority class or mean of a loop's labels, what every model has to beat."""

from __future__ import annotations

from everloop_metrics import class_name
from everloop_models.model import Prediction
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.loop import LoopSpec
from everloop_shared.arithmetic import bounded


class Baseline:
    """Running majority class (of equals the one seen first) or mean. `state` and `restore` keep it in JSON."""

    def __init__(self, spec: LoopSpec) -> None:
        self.regression = spec.task == "regression"
        self.default = spec.initial_prediction
        self.count = 0
        self.mean = 0.0
        self.classes: dict[Scalar, int] = {}

    def predict(self, features: Fields | None = None) -> Prediction:
        """The majority class with the share of each, or the mean; features are ignored."""
        if not self.count:
            return Prediction(self.default, None)
        if self.regression:
            return Prediction(self.mean, None)
        shares = {class_name(k): n / self.count for k, n in self.classes.items()}
        return Prediction(max(self.classes, key=self.classes.__getitem__), shares)

    def learn(self, label: Scalar) -> None:
        """Count one label."""
        self.count += 1
        if self.regression:
            self.mean += (bounded(label) - self.mean) / self.count
        else:
            self.classes[label] = self.classes.get(label, 0) + 1

    def state(self) -> dict[str, object]:
        """All that it knows, for JSON."""
        return {"count": self.count, "mean": self.mean, "classes": [[k, n] for k, n in self.classes.items()]}

    def restore(self, state: dict[str, object]) -> None:
        """Take back what `state` gave."""
        classes = state["classes"]
        assert isinstance(classes, list), "written by state()"
        self.count, self.mean = int(str(state["count"])), float(str(state["mean"]))
        self.classes = {k: n for k, n in classes}
