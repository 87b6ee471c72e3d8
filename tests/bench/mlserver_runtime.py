"""What MLServer runs in the figure `doors`: logistic regression, row by row. MLServer is in its own interpreter."""

import json
from math import exp
from pathlib import Path

from mlserver import MLModel  # type: ignore[import-not-found]
from mlserver.cli import main  # type: ignore[import-not-found]
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput  # type: ignore[import-not-found]


class Logistic(MLModel):  # type: ignore[misc]
    """Weights by name of the input, read from a file."""

    async def load(self) -> bool:
        """Read the weights."""
        self.weights = json.loads(Path(self.settings.parameters.uri).read_text())
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Predict each row."""
        columns = [tensor.data.root for tensor in payload.inputs]
        weights = [self.weights[tensor.name] for tensor in payload.inputs]
        chances = [1 / (1 + exp(-sum(map(float.__mul__, weights, row)))) for row in zip(*columns, strict=True)]
        n = len(chances)
        flat = [value for chance in chances for value in (1 - chance, chance)]
        outputs = [
            ResponseOutput(name="prediction", shape=[n], datatype="BOOL", data=[chance > 0.5 for chance in chances]),
            ResponseOutput(name="probabilities", shape=[n, 2], datatype="FP64", data=flat),
        ]
        return InferenceResponse(model_name=self.name, outputs=outputs)


if __name__ == "__main__":
    main()
