"""The one place that imports onnxruntime: no telemetry, no log, one thread, and limits on what a run takes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar
from weakref import WeakSet

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read at import: otherwise it starts a thread, writes files and reports

import onnxruntime as ort  # type: ignore[import-untyped]

from everloop_models.errors import ArtifactCorrupt, ModelBroken
from everloop_models.formats.onnx.texts import shown

RUN_BYTES = 256_000_000
"""Memory for what all runs of a process make on their way, without the weights: it may depend on the features."""
RUN_LIMIT_S = 1.0
"""A run is ended after this time, and before twice as much."""
_FATAL = 4

ort.disable_telemetry_events()
ort.set_default_logger_severity(_FATAL)  # it logs to stderr what its errors say as well
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
    ort.OrtArenaCfg({"max_mem": RUN_BYTES}),
)


class Session:
    """A model that onnxruntime has loaded; one thread at a time. Raises ArtifactCorrupt with what onnxruntime says."""

    def __init__(self, data: bytes) -> None:
        try:
            self._session = ort.InferenceSession(data, _session_options(), providers=["CPUExecutionProvider"])
        except Exception as e:  # its errors are many classes of a private module
            raise ArtifactCorrupt(f"onnxruntime {ort.__version__} cannot load it: {shown(e)}") from e
        self._options = ort.RunOptions()
        self.turn = 0
        """Odd while it runs."""
        _Watch.over(self)

    @property
    def metadata(self) -> Mapping[str, str]:
        """What is written in the file beside the graph."""
        found: Mapping[str, str] = self._session.get_modelmeta().custom_metadata_map
        return found

    @property
    def inputs(self) -> list[str]:
        """The names of its inputs."""
        return [port.name for port in self._session.get_inputs()]

    @property
    def outputs(self) -> list[str]:
        """The names of its outputs."""
        return [port.name for port in self._session.get_outputs()]

    def run(self, names: Sequence[str], fed: Mapping[str, Any]) -> list[Any]:
        """The outputs of these names; raises ModelBroken where it fails, takes too long or needs too much memory."""
        self.turn += 1
        try:
            outputs: list[Any] = self._session.run(names, fed, self._options)
            return outputs
        except Exception as e:
            if self._options.terminate:
                raise ModelBroken(f"predicting took longer than {RUN_LIMIT_S:g} s") from e
            raise ModelBroken(f"predicting failed: {shown(e)}") from e
        finally:
            self.turn += 1
            if self._options.terminate:
                self._options = ort.RunOptions()

    def end_run(self) -> None:
        """Let the present run raise; another thread calls this."""
        self._options.terminate = True


def _session_options() -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = _FATAL
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.use_env_allocators", "1")
    options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
    return options


class _Watch:
    """A thread that ends runs which take too long: a graph may repeat as often as a feature says."""

    sessions: ClassVar[WeakSet[Session]] = WeakSet()
    started_in = 0
    lock = threading.Lock()

    @classmethod
    def over(cls, session: Session) -> None:
        with cls.lock:
            cls.sessions.add(session)
            if cls.started_in != os.getpid():  # a forked process has none of the threads of the one before
                cls.started_in = os.getpid()
                threading.Thread(target=cls._go_on, name="onnx-watch", daemon=True).start()

    @classmethod
    def _go_on(cls) -> None:
        running: dict[int, int] = {}
        while True:
            time.sleep(RUN_LIMIT_S)
            running = cls._end_those_of(running)

    @classmethod
    def _end_those_of(cls, before: Mapping[int, int]) -> dict[int, int]:
        """End the runs that were there before; returns those that are there now. No session is held meanwhile."""
        with cls.lock:
            sessions = list(cls.sessions)
        running = {id(each): each.turn for each in sessions if each.turn % 2}
        for each in sessions:
            if each.turn % 2 and before.get(id(each)) == each.turn:
                each.end_run()
        return running
