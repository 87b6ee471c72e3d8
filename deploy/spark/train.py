"""Trains Spark ML models for a loop: takes each run that asks for one, and answers with an ONNX file."""

from __future__ import annotations

import argparse
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import fit
from algorithms import estimator
from archive import Archive
from connector import connector_jars
from outcomes import Source, read_rows
from program import command_line, take_runs
from pyspark.sql import SparkSession
from session import start_session
from topic import Topic

from everloop import Everloop, TrainerRun
from everloop.local.discovery import find_installation
from everloop.own_folder import own_folder
from everloop_archive.columns import FieldTypes
from everloop_schemas.feature import OutcomeObserved
from everloop_schemas.loop import LoopSpec

log = logging.getLogger("spark-trainer")
ENDED_SEEN_S = 1.0


def main() -> None:
    """Read the command line, start Spark and take runs."""
    given = _arguments()
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs every call to a Java process that has ended
    jars = connector_jars() if given.stream else []
    spark = start_session(given.master, given.memory, jars, dict(given.conf))
    try:
        with own_folder("spark") as own:
            folder = Path(given.folder or own)
            folder.mkdir(parents=True, exist_ok=True)
            source = _source(spark, given, folder)
            with Everloop() as everloop:
                take_runs(given, partial(train, everloop=everloop, spark=spark, source=source, folder=folder))
    finally:
        with suppress(Exception):
            spark.stop()


def train(run: TrainerRun, everloop: Everloop, spark: SparkSession, source: Source | None, folder: Path) -> None:
    """Train a model on the run's data set, prove its ONNX file equal, and submit it."""
    learner = estimator(run.task, run.parameters)
    spec = _spec(everloop, run.loop)
    types = FieldTypes.of(spec)
    if spec.personal_fields:  # archive and topic have them sealed, and training opens them
        source = None
    with own_folder("run", folder) as of_run, _cancelled_when_ended(run, spark):
        try:
            rows = read_rows(run, everloop, source, types, spark, Path(of_run))
            classes = None if run.task == "regression" else fit.classes_of(rows.frame, run.classes)
            trained = fit.train(rows.frame, dict(types.features), learner, classes)
        except Exception as e:
            if not _runs(spark):
                raise SystemExit("Spark has ended; perhaps it needs more --memory") from e
            if run.ended:
                log.info("run %s is needed no more: %s", run.run, run.reason_ended)
                return
            raise
        finally:
            with suppress(Exception):  # Spark may have ended
                spark.catalog.clearCache()
    answered = run.submit(
        trained.file, metrics=trained.metrics, classes=trained.classes, digest=rows.digest, rows=rows.rows
    )
    log.info("run %s has ended: %s predicts, %s", run.run, answered.version, trained.metrics)


def _runs(spark: SparkSession) -> bool:
    """Whether Spark still runs; its process ends when it has no memory left, and the run is left to the next job."""
    try:
        return bool(spark.sparkContext.defaultParallelism)
    except Exception:  # of a connection that is gone
        return False


def _source(spark: SparkSession, given: argparse.Namespace, folder: Path) -> Source | None:
    if given.archive:
        return Archive(spark, given.archive)
    if given.stream:
        bootstrap = given.kafka or find_installation(None).kafka()
        options = {"kafka.bootstrap.servers": bootstrap, **{f"kafka.{key}": value for key, value in given.kafka_option}}
        return Topic(spark, given.topic_prefix + OutcomeObserved.topic.name, options, folder)
    return None


def _spec(everloop: Everloop, loop: str) -> LoopSpec:
    return LoopSpec.model_validate(everloop.request("registry", "GET", f"/v1/loops/{loop}").json()["spec"])


@contextmanager
def _cancelled_when_ended(run: TrainerRun, spark: SparkSession) -> Iterator[None]:
    """While this is entered, Spark's jobs are cancelled as soon as nobody needs the model any more."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(ENDED_SEEN_S):
            if run.ended:
                spark.sparkContext.cancelAllJobs()

    watcher = threading.Thread(target=watch, name="everloop-ended", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _pair(text: str) -> tuple[str, str]:
    key, found, value = text.partition("=")
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write KEY=VALUE")
    return key, value


def _arguments() -> argparse.Namespace:
    parser = command_line("spark", __doc__)
    sources = parser.add_mutually_exclusive_group()
    sources.add_argument("--archive", metavar="URL", help="read data sets from this archive (EVERLOOP_ARCHIVE)")
    sources.add_argument("--stream", action="store_true", help="read outcomes from the topic, by Structured Streaming")
    parser.add_argument("--folder", help="keeps what --stream has read; on a cluster, seen by all its machines")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="the brokers of --stream; by default the local ones")
    parser.add_argument("--kafka-option", metavar="KEY=VALUE", type=_pair, action="append", default=[])
    parser.add_argument("--topic-prefix", default="", help="as EVERLOOP_TOPIC_PREFIX")
    parser.add_argument("--master", default="local[*]", help="where Spark runs (default: in this process)")
    parser.add_argument("--memory", default="1g", help="of the driver, which is all of Spark in this process")
    parser.add_argument("--conf", metavar="KEY=VALUE", type=_pair, action="append", default=[], help="of Spark")
    return parser.parse_args()


if __name__ == "__main__":
    main()
