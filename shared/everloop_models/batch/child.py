"""The process that trains a batch model: `python -m everloop_models.batch.child FOLDER PARENT MEMORY MODEL`.

It reads `request.json` and `rows.ndjson` in the folder, and writes `model.onnx` and `answer.json`. PARENT is the
process that it ends with, MEMORY and MODEL are the bytes of memory and of the model that it may have.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everloop_models.errors import ArtifactCorrupt, ModelBroken, lacks_memory
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.limited_child import end_with_the_parent, limit_resources

REQUEST, ROWS, MODEL, ANSWER = "request.json", "rows.ndjson", "model.onnx", "answer.json"
NICENESS = 10


def main(folder: Path, parent: int, memory_bytes: int, model_bytes: int) -> None:
    """Train as the request says; the answer is `metrics`, `signature` and `seconds`, or the `reason` why not."""
    end_with_the_parent(parent)
    os.nice(NICENESS)
    try:
        answer = _train(folder, memory_bytes, model_bytes)
    except MemoryError:
        answer = _too_large(memory_bytes)
    except (ArtifactCorrupt, ModelBroken) as e:
        answer = _too_large(memory_bytes) if lacks_memory(e.detail) else {"reason": e.detail[:1_000]}
    (folder / ANSWER).write_text(json.dumps(answer, allow_nan=False))


def _train(folder: Path, memory_bytes: int, model_bytes: int) -> Mapping[str, Any]:
    started = time.monotonic()
    try:
        from everloop_models.batch.fit import train
    except ImportError as e:
        return {"reason": f"{e}: install what batch lines need with: pip install 'everloop[boosting]'"}
    from everloop_models.batch.rows import read_rows

    limit_resources(memory_bytes, {resource.RLIMIT_FSIZE: model_bytes})
    request = json.loads((folder / REQUEST).read_bytes())
    with (folder / ROWS).open("rb") as lines:
        rows = read_rows(lines)
    trained = train(ModelSpec.model_validate(request["model"]), LoopSpec.model_validate(request["spec"]), rows)
    if len(trained.data) > model_bytes:
        return {"reason": f"the model has {len(trained.data):,} bytes; at most {model_bytes:,} are stored"}
    (folder / MODEL).write_bytes(trained.data)
    seconds = round(time.monotonic() - started, 3)
    return {"metrics": trained.metrics, "signature": trained.signature, "seconds": seconds}


def too_slow(seconds: float) -> str:
    """The reason of a training that was ended after so long."""
    fix = "take a smaller window or model, or raise EVERLOOP_TRAINING_BATCH_SECONDS"
    return f"training took longer than {seconds:g} s and was ended: {fix}"


def how_it_ended(code: int) -> str:
    """What is said of a process without an answer."""
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"


def _too_large(memory_bytes: int) -> Mapping[str, Any]:
    fix = "take a smaller window or model, or raise EVERLOOP_TRAINING_BATCH_MEMORY_BYTES"
    return {"reason": f"training needs more than {memory_bytes / 1e6:,.0f} MB of memory: {fix}"}


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:5]))
