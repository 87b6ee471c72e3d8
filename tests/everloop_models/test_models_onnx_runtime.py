"""onnxruntime as a service has it: no telemetry, no files, no threads of its own, no output, no model in a pickle."""

from __future__ import annotations

import gc
import os
import pickle
import subprocess
import sys
import weakref
from pathlib import Path

import pytest
from tests.builders.loops import loop_spec
from tests.builders.onnx_models import network, normalised

from everloop_models.formats.onnx.format import load

SPEC = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}})
PROGRAM = """
import os, sys
from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.onnx.format import load
model = load(open(sys.argv[1], "rb").read())
assert model.predict({"a": 1.0, "b": 2.0}).value in (False, True)
try:
    load(b"broken")
except ArtifactCorrupt:
    pass
print(sorted(open(f"/proc/self/task/{task}/comm").read().strip() for task in os.listdir("/proc/self/task")))
"""


@pytest.mark.process
def test_a_process_with_a_model_writes_no_files_says_nothing_and_has_one_thread_more(tmp_path: Path) -> None:
    file, home = tmp_path / "model.onnx", tmp_path / "home"
    file.write_bytes(normalised(network(2, 2), SPEC).data)
    home.mkdir()
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment = {**kept, "HOME": str(home), "OPENBLAS_NUM_THREADS": "1"}

    command = [sys.executable, "-c", PROGRAM, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=home)

    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.split(",")) == 2  # the one that watches runs, and the program's own
    assert not [*home.rglob("*")]


def test_a_model_is_never_pickled() -> None:
    model = load(normalised(network(2, 2), SPEC).data)

    with pytest.raises(TypeError, match="kept as a reference to its artifact, never pickled"):
        pickle.dumps(model)


def test_a_model_that_is_not_used_any_more_is_freed() -> None:
    model = load(normalised(network(2, 2), SPEC).data)
    model.predict({"a": 1.0, "b": 0.0})
    session = weakref.ref(vars(model)["_session"])

    del model
    gc.collect()

    assert session() is None
