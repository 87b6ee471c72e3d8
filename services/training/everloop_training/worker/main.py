"""Runs the worker as a process: it ends with the service that started it."""

from __future__ import annotations

import gc

from everloop_shared.logging import configure_logging
from everloop_training.settings import TrainingSettings
from everloop_training.worker.protocol.pipe import ServicePipe


def main() -> None:
    """Serve the messages of the service until it has ended, however it did."""
    pipe = ServicePipe()
    from everloop_training.worker.app import build  # imports River, which takes seconds: bind to the service first

    settings = TrainingSettings.model_validate_json(pipe.read())
    dispatcher = build(settings)
    configure_logging("training", settings.log_level)
    gc.freeze()
    pipe.serve(dispatcher.handle)


if __name__ == "__main__":
    main()
