"""The program around a framework's training: its command line, its log, and the runs one after the other."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from everloop import TrainerRun, trainer


def take_runs(name: str, train: Callable[[TrainerRun], None], description: str | None) -> None:
    """Let `train` answer runs until interrupted, or until none has come for `--idle` seconds."""
    arguments = argparse.ArgumentParser(description=description)
    arguments.add_argument("loop")
    arguments.add_argument("--name", default=name, help="the trainer's name in the loop file")
    arguments.add_argument("--idle", type=float, help="end after so many seconds without a run")
    given = arguments.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    log = logging.getLogger(f"{name}-trainer")
    for run in trainer(given.loop, given.name, idle=given.idle):
        log.info("run %s: %s, on %s", run.run, run.reason, run.data_set_name)
        try:
            with run:
                train(run)
        except Exception:
            log.exception("run %s has failed", run.run)
