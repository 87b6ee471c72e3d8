"""Makes the one prediction of a prediction id, or finds the one made before."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from msgspec.structs import replace

from everloop_models import ModelPrediction
from everloop_schemas.serving import PredictionMade
from everloop_serving.domain.events import build_prediction_event
from everloop_serving.domain.new_predictions import id_taken
from everloop_serving.domain.predict import Endpoint, PredictionRequest, predict
from everloop_serving.domain.recent import RecentPredictions, RememberedPrediction
from everloop_serving.domain.served_loop import ServedLoop
from everloop_serving.errors import VersionFailed
from everloop_serving.ports import Metrics, ServedLoops
from everloop_shared.clock import Clock


@dataclass
class Predictions:
    """The step that the stream and requests share. `timer` counts seconds."""

    loops: ServedLoops
    recent: RecentPredictions
    metrics: Metrics
    clock: Clock
    timer: Callable[[], float]

    def find(
        self, loop: ServedLoop, prediction_id: str, fingerprint: str | None, endpoint: Endpoint
    ) -> RememberedPrediction | None:
        """The prediction made before under this id; raises IdTaken where that was from another observation."""
        found = self.recent.get(loop.loop, prediction_id, loop.life)
        if found is None:
            return None
        before = found.event.data.fingerprint
        if before is not None and fingerprint is not None and before != fingerprint:
            self.metrics.count_id_taken(loop.loop, endpoint)
            raise id_taken(prediction_id)
        self.metrics.count_reused(loop.loop, endpoint)
        return found

    def make(self, loop: ServedLoop, request: PredictionRequest) -> PredictionMade:
        """A new prediction, counted and with its failures reported; the caller remembers it."""
        try:
            result = predict(loop, request, self.timer)
        except VersionFailed as e:
            self.loops.report_failure(loop, e.version, e.detail)
            raise
        for failure in result.failures:
            self.loops.report_failure(loop, failure.version, failure.reason)
        self.metrics.count_prediction(loop.loop, request.endpoint, result)
        made = build_prediction_event(loop, request, result, self.clock())
        return self.explained(loop, made, request.explain_s) if request.explain_s else made

    def explained(self, loop: ServedLoop, made: PredictionMade, seconds: float) -> PredictionMade:
        """The prediction with what each feature contributed; as it is where its version does not serve any more."""
        data = made.data
        version = loop.find_version(data.version)
        if version is None or data.explanation is not None:
            return made
        prediction = ModelPrediction(data.prediction, data.probabilities)
        explanation = version.explain(data.features, prediction, made.subject, seconds)
        self.metrics.count_explanation(loop.loop, explanation.method if explanation else "none")
        return replace(made, data=replace(data, explanation=explanation))
