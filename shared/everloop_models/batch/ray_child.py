"""Trains a batch model on a Ray cluster, as `child` does on this machine.

`python -m everloop_models.batch.ray_child FOLDER PARENT MEMORY MODEL SECONDS RAY`: a worker of the cluster at RAY runs
`child`, for at most SECONDS. An answer of `unavailable` says why the cluster could not do it now.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from everloop_models.batch.allowed import RECORDED
from everloop_models.batch.child import ANSWER, MODEL, REQUEST, ROWS, how_it_ended, too_slow
from everloop_models.compute.environment import training_environment
from everloop_models.compute.ray_driver import FailedCall, connected
from everloop_models.errors import WorkersUnfit
from everloop_schemas.loop_parts import ModelSpec
from everloop_shared.errors import Unavailable
from everloop_shared.limited_child import end_with_the_parent

TRAIN = "everloop_models.batch.ray_child:train_on_worker"


def main(folder: Path, parent: int, memory_bytes: int, model_bytes: int, seconds: float, address: str) -> None:
    """Train as the request says; the model and the answer are in the folder as `child` leaves them."""
    end_with_the_parent(parent)
    try:
        answer = _train(folder, memory_bytes, model_bytes, seconds, address)
    except WorkersUnfit as e:
        answer = {"reason": e.detail}
    except Unavailable as e:
        answer = {"unavailable": e.detail}
    (folder / ANSWER).write_text(json.dumps(answer, allow_nan=False))


def _train(folder: Path, memory_bytes: int, model_bytes: int, seconds: float, address: str) -> Any:
    model = ModelSpec.model_validate(json.loads((folder / REQUEST).read_bytes())["model"])
    with connected(address, RECORDED[(model.estimator or "").partition(".")[0]]) as driver:
        driver.put([folder / REQUEST, folder / ROWS])
        [found] = driver.call(TRAIN, [(memory_bytes, model_bytes, seconds)], seconds)
    if isinstance(found, FailedCall):
        return {"reason": found.reason}
    answer, data = found
    if data is not None:
        (folder / MODEL).write_bytes(data)
    return answer


def train_on_worker(folder: Path, memory_bytes: int, model_bytes: int, seconds: float) -> tuple[Any, bytes | None]:
    """The answer and the model of the process that trains, on a worker that has the request and the rows."""
    with tempfile.TemporaryDirectory() as made:
        here = Path(made)
        for name in (REQUEST, ROWS):
            (here / name).symlink_to(folder / name)
        limits = [str(number) for number in (os.getpid(), memory_bytes, model_bytes)]
        try:
            code = subprocess.run(
                [sys.executable, "-m", "everloop_models.batch.child", made, *limits],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=training_environment(),
                timeout=seconds,
            ).returncode
        except subprocess.TimeoutExpired:
            return {"reason": too_slow(seconds)}, None
        try:
            answer = json.loads((here / ANSWER).read_bytes())
        except (OSError, ValueError):
            return {
                "reason": f"the process that trained it {how_it_ended(code)}; the log of Ray's worker has more"
            }, None
        return answer, (here / MODEL).read_bytes() if "reason" not in answer else None


if __name__ == "__main__":
    parent, memory_bytes, model_bytes = map(int, sys.argv[2:5])
    main(Path(sys.argv[1]), parent, memory_bytes, model_bytes, float(sys.argv[5]), sys.argv[6])
    os._exit(0)  # Ray's threads could hold it up, where the cluster is away
