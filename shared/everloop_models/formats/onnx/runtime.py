"""The one place that imports onnxruntime: without telemetry, quiet, and with one thread for each session."""

from __future__ import annotations

import os

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read at import: otherwise it starts a thread, writes files and reports

import onnxruntime  # type: ignore[import-untyped]

from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.texts import shown

onnxruntime.disable_telemetry_events()
_FATAL = 4
onnxruntime.set_default_logger_severity(_FATAL)  # it logs to stderr what its errors say as well


def start_session(data: bytes) -> onnxruntime.InferenceSession:
    """A session on one CPU thread that writes no files; raises ArtifactCorrupt with what onnxruntime says."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    options.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as e:  # its errors are many classes of a private module
        raise ArtifactCorrupt(f"onnxruntime {onnxruntime.__version__} cannot load it: {shown(e)}") from e
