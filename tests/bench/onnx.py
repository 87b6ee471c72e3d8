"""An ONNX champion by REST and on the stream, against onnxruntime in a bare handler and a bare aiokafka loop."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from skl2onnx import to_onnx  # type: ignore[import-untyped]
from sklearn.ensemble import HistGradientBoostingClassifier  # type: ignore[import-untyped]
from tests.bench import stream
from tests.bench.bare_onnx import FEATURES
from tests.bench.figures import Figure, against
from tests.bench.rest import bare_served, bodies, in_turn, load, ours, ours_served
from tests.bench.serving import bare_drained, ours_drained
from tests.bench.settings import Settings

from everloop_models import Artifact
from everloop_models.formats.onnx.normalise import normalise
from everloop_schemas.loop import LoopSpec
from everloop_schemas.registry import LiveVersion

GOAL = 0.4
CONNECTIONS = 32
LEARNED, TREES = 5_000, 100


async def measure(settings: Settings) -> list[Figure]:
    """Gradient boosting of scikit-learn, converted to ONNX; both sides answer the same in turn."""
    onnx = converted()
    trained = partial(champion, onnx=onnx)
    async with (
        ours_served(settings, "onnx.", trained=trained) as (subject, bus),
        bare_served(settings, onnx) as handler,
    ):
        found = await in_turn(
            settings,
            partial(ours, subject, bus, CONNECTIONS, settings.rest_requests),
            partial(load, handler, "/predict", CONNECTIONS, settings.rest_requests, bodies()),
        )
    mine, bare = ([one.sample for one in loads] for loads in found)
    by_rest = against("ONNX champion by REST, 32 connections / bare handler with onnxruntime", mine, bare, GOAL)
    mine, bare = [], []
    for run in range(settings.runs):
        mine += await ours_drained(settings, f"onnx-stream{run}.", trained)
        bare += await bare_drained(settings, f"onnx-bare{run}.", onnx)
    on_stream = against("ONNX champion, stream scoring / aiokafka, onnxruntime, aiokafka", mine, bare, GOAL)
    return [replace(by_rest, unit="requests/s"), on_stream]


def converted() -> bytes:
    """The model as a user would convert it."""
    found = [(outcome.data.features, outcome.data.label) for outcome in stream.outcomes(LEARNED)]
    x = np.array([[features[name] for name in FEATURES] for features, _ in found], dtype=np.float32)
    y = np.array([label for _, label in found])
    model = HistGradientBoostingClassifier(max_iter=TREES, random_state=0).fit(x, y)
    data: bytes = to_onnx(model, x[:1], options={"zipmap": False}).SerializeToString()
    return data


def champion(folder: Path, onnx: bytes) -> LiveVersion:
    """A version of it, as the registry takes it in, with its artifact in the folder of an installation."""
    spec = LoopSpec.model_validate(stream.spec())
    artifact = Artifact.of(normalise(onnx, spec, FEATURES).data)
    return stream.stored(folder, "boosting-0@4999", artifact, format_name="onnx")
