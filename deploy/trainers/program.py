"""The program around a framework's training: its command line, its log, and the runs one after the other."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable

from everloop import TrainerRun, trainer


def command_line(name: str, description: str | None) -> argparse.ArgumentParser:
    """The command line that all trainers have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("loop")
    parser.add_argument("--name", default=name, help="the trainer's name in the loop file")
    parser.add_argument("--idle", type=float, help="end after so many seconds without a run")
    return parser


def take_runs(given: argparse.Namespace, train: Callable[[TrainerRun], None]) -> None:
    """Let `train` answer runs until interrupted, or until none has come for `--idle` seconds."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(message)s")
    log = logging.getLogger(f"{given.name}-trainer")
    for run in trainer(given.loop, given.name, idle=given.idle):
        log.info("run %s: %s, on %s", run.run, run.reason, run.data_set_name)
        try:
            with run:
                train(run)
        except Exception:
            log.exception("run %s has failed", run.run)
