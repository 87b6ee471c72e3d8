"""The model format `onnx`: models of any framework as ONNX files; the functions are those of `ModelFormat`."""

from __future__ import annotations

from everloop_models.formats.onnx.model import OnnxModel
from everloop_models.formats.onnx.normalise import check

__all__ = ["LIBRARIES", "check", "load"]

LIBRARIES: tuple[str, ...] = ("onnx", "onnxruntime", "numpy")
"""What reads and runs the files."""


def load(data: bytes) -> OnnxModel:
    """The model in bytes that `check` has passed; raises ArtifactCorrupt."""
    return OnnxModel.from_bytes(data)
