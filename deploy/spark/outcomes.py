"""A run's data set as a Spark frame: which outcomes are learned, from where they are read, and their digest."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol
from uuid import uuid4

import msgspec
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from everloop import DataSet, Everloop, EverloopHTTPError, TrainerRun
from everloop_archive.columns import FieldTypes
from everloop_learning.data_set import Row, RowsDigest
from everloop_schemas.training import DataSet as Range

log = logging.getLogger("spark-trainer")
SQL = {"boolean": "boolean", "integer": "bigint", "number": "double", "string": "string"}
REPEATS_WITHIN = 20_000
"""Offsets within which a record may stand on the log again, published a second time after a crash."""


ROWS_OF_SLICE = 20_000


class Outcomes(NamedTuple):
    """Records of a loop with offsets below `next_offset`; `has_feedback` says whether some before were feedback.

    The columns are `offset`, `id`, `correction`, `label`, `features` and `record`, the event as it is on the log.
    """

    frame: DataFrame
    next_offset: int
    has_feedback: bool


class Source(Protocol):
    """Where a loop's outcomes are read from."""

    def read(self, loop: str, start: int, end: int, types: FieldTypes) -> Outcomes | None:
        """Those from about `start` to `end`; None where it has none of them."""


class RunRows(NamedTuple):
    """The rows of a run's data set: columns `offset`, `label` and `features`; digest and number, unless the client
    has read them all and knows.
    """

    frame: DataFrame
    digest: str | None = None
    rows: int | None = None


def read_rows(
    run: TrainerRun, everloop: Everloop, source: Source | None, types: FieldTypes, spark: SparkSession, folder: Path
) -> RunRows:
    """Read a run's rows from a source, and what it does not have from the log, by the client.

    Which feedback is learned follows from the whole history of a loop: the data set of a loop with feedback is read by
    the client, because training knows.
    """
    wanted = Range.parse(run.data_set_name)
    outcomes = source.read(wanted.loop, wanted.start, wanted.end, types) if source else None
    if outcomes is None or outcomes.has_feedback:
        log.info("run %s: the data set is read by the client", run.run)
        return RunRows(_as_frame(run.data_set, types, spark, folder))
    learned = _learned(outcomes.frame, wanted.start, min(wanted.end, outcomes.next_offset - 1))
    digest = RowsDigest()
    digest.add(row.encode() for row in _rows(learned))
    frame = learned.select("offset", "label", "features")
    if outcomes.next_offset <= wanted.end:
        rest = _rest(everloop, wanted, outcomes.next_offset)
        log.info("run %s: %d rows are read by the client, the others by Spark", run.run, len(rest) if rest else 0)
        if rest:
            digest.add(row.encode() for row in rest)
            frame = frame.unionByName(_as_frame(rest, types, spark, folder))
    return RunRows(frame, digest.hexdigest(), digest.rows)


def typed(column: Column, kind: str) -> Column:
    """A column in the type of a field; what does not fit it is missing."""
    return column.try_cast(SQL[kind])


def _rest(everloop: Everloop, wanted: Range, start: int) -> DataSet | None:
    """The rows from an offset on; None where there is no learnable one."""
    try:
        return everloop.dataset(wanted.loop, start=start, end=wanted.end)
    except EverloopHTTPError as e:
        if e.status != 404:
            raise
        return None


def _learned(records: DataFrame, start: int, end: int) -> DataFrame:
    """The records with the first label of a prediction, once each, of a loop without feedback."""
    first = records.where((F.col("correction") == 0) & F.col("label").isNotNull() & (F.col("offset") <= end))
    order = Window.partitionBy("id").orderBy("offset")
    numbered = first.select("offset", F.row_number().over(order).alias("number"))
    repeats = [offset for offset, _ in numbered.where("number > 1").collect()]  # a crash leaves some hundreds
    return first.where((F.col("offset") >= start) & ~F.col("offset").isin(repeats))


def _rows(learned: DataFrame) -> Iterator[Row]:
    """The rows in order, as the digest has them; two slices of them at a time are in memory."""
    records = learned.select("offset", "record")
    slices = records.count() // ROWS_OF_SLICE + 1
    in_order = records.repartitionByRange(slices, "offset").sortWithinPartitions("offset")
    for offset, record in in_order.toLocalIterator(prefetchPartitions=True):
        data = msgspec.json.decode(record)["data"]
        time = datetime.fromisoformat(data["predicted"])
        yield Row(offset, time, data["prediction_id"], data["features"], data["label"])


def _as_frame(rows: DataSet, types: FieldTypes, spark: SparkSession, folder: Path) -> DataFrame:
    """What the client has read; Spark reads it from a file."""
    file = folder / f"rows-{uuid4().hex}.parquet"
    rows.to_parquet(file)
    offset, _, _, *features, label = rows.columns
    frame = spark.read.parquet(file.absolute().as_uri())
    present = {name: F.col(f"`{name}`") for name in features}
    columns = [typed(present.get(name, F.lit(None)), kind).alias(name) for name, kind in types.features.items()]
    return frame.select(
        F.col(offset).alias("offset"),
        typed(F.col(label), types.label).alias("label"),
        F.struct(*columns).alias("features"),
    )
