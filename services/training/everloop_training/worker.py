"""The worker process: learns away from the event loop, and ends with the process that started it."""

from __future__ import annotations

import ctypes
import gc
import io
import os
import pickle
import signal
import sys
from contextlib import suppress
from typing import Any

from everloop_shared.logging import configure_logging
from everloop_training.messages import HEADER, frame
from everloop_training.settings import TrainingSettings

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Read messages until the pipe ends, which it does when the service is gone, however it went."""
    answers = _own_pipes()
    from everloop_training.desk import desk_of  # imports river, which takes seconds: be bound to the service first

    settings = TrainingSettings.model_validate_json(_read(sys.stdin.buffer))
    desk = desk_of(settings)
    configure_logging("training", settings.log_level)
    gc.freeze()
    with suppress(BrokenPipeError):
        while (message := _read(sys.stdin.buffer)) is not None:
            for answer in desk.handle(message):
                answers.write(frame(answer))
            answers.flush()


def _own_pipes() -> io.BufferedWriter:
    """Standard output is for answers only: what libraries print goes to standard error."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the service says when to stop
    with suppress(OSError, AttributeError):  # Linux only: also while learning, end with the parent
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return answers


def _read(pipe: Any) -> Any:
    header = pipe.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    (size,) = HEADER.unpack(header)
    body = pipe.read(size)
    return pickle.loads(body) if len(body) == size else None


if __name__ == "__main__":
    main()
