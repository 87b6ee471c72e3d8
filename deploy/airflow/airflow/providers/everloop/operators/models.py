"""The operator that submits a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from airflow.providers.everloop.operators.base import EverloopOperator
from airflow.sdk import Context


class EverloopSubmitModelOperator(EverloopOperator):
    """Submits an ONNX model, a file that the worker reads, under the name of its line; it challenges the champion.

    The result is the version. A second attempt with the same file is the same version. A model that is refused fails
    the task without a retry, with the field and the fix.
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "model", "name", "metrics", "data_set")

    def __init__(
        self,
        *,
        model: str,
        name: str,
        features: Sequence[str] | None = None,
        classes: Sequence[Any] | None = None,
        metrics: Mapping[str, float] | None = None,
        data_set: str | None = None,
        outputs: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model, self.name, self.features, self.classes = model, name, features, classes
        self.metrics, self.data_set, self.outputs = metrics, data_set, outputs

    def execute(self, context: Context) -> dict[str, Any]:
        """Submit it."""
        about = {"features": self.features, "classes": self.classes, "metrics": self.metrics, "outputs": self.outputs}
        submitted = self.ask(
            lambda client: client.submit(self.loop, self.model, name=self.name, data_set=self.data_set, **about)
        )
        return asdict(submitted)
