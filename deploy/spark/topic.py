"""Reads outcomes from the topic itself by Structured Streaming: each run reads what has come since the last one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from outcomes import REPEATS_WITHIN, SQL, Outcomes
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

from everloop_archive.columns import FieldTypes

OFFSETS_PER_BATCH = 100_000
"""Records of all loops that one batch reads, so that memory does not depend on how far behind the job is."""
COLUMNS = "partition int, offset bigint, correction bigint, kind string, record string"


class Topic:
    """The topic of outcomes on a broker; what was read lies below `folder` as Parquet, with Spark's checkpoint.

    After a kill the stream goes on from its checkpoint, and every record is in the files once.
    """

    def __init__(self, spark: SparkSession, topic: str, options: Mapping[str, str], folder: Path) -> None:
        self._spark, self._topic, self._options, self._folder = spark, topic, options, folder

    def read(self, loop: str, start: int, end: int, types: FieldTypes) -> Outcomes | None:
        """Its outcomes from about `start` to `end`; raises ValueError where the topic lacks them."""
        self._read_on(loop)
        records = self._spark.read.schema(COLUMNS).parquet(self._table(loop))
        if records.where(F.col("offset") == end).isEmpty():
            raise ValueError(f"{self._topic} has no record of {loop} at offset {end}; is it the installation's broker?")
        event = F.from_json("record", _event_schema(types))
        outcomes = records.where(F.col("offset") <= end).withColumn("event", event)
        has_feedback = not outcomes.where("kind = 'feedback'").isEmpty()
        frame = outcomes.where(F.col("offset") >= start - REPEATS_WITHIN).select(
            "offset", "event.id", "correction", "event.data.label", "event.data.features", "record"
        )
        return Outcomes(frame, end + 1, has_feedback)

    def _read_on(self, loop: str) -> None:
        """Append what the topic has now to the files."""
        records = (
            self._spark.readStream.format("kafka")
            .options(**self._options)
            .option("subscribe", self._topic)
            .option("startingOffsets", "earliest")
            .option("kafka.isolation.level", "read_committed")
            .option("maxOffsetsPerTrigger", OFFSETS_PER_BATCH)
            .load()
        )
        query = (
            _columns(records.where(F.col("key") == F.lit(loop.encode())))
            .writeStream.format("parquet")
            .option("path", self._table(loop))
            .option("checkpointLocation", (self._folder / loop / "checkpoint").absolute().as_uri())
            .trigger(availableNow=True)
            .start()
        )
        try:
            query.awaitTermination()
        finally:
            query.stop()

    def _table(self, loop: str) -> str:
        return (self._folder / loop / "outcomes").absolute().as_uri()


def _event_schema(types: FieldTypes) -> str:
    features = ", ".join(f"`{name}` {SQL[kind]}" for name, kind in types.features.items())
    return f"id string, data struct<label {SQL[types.label]}, features struct<{features}>>"


def _columns(records: DataFrame) -> DataFrame:
    record = F.col("value").cast("string")
    return records.select(
        "partition",
        "offset",
        F.coalesce(F.get_json_object(record, "$.data.correction").cast("bigint"), F.lit(0)).alias("correction"),
        F.coalesce(F.get_json_object(record, "$.data.kind"), F.lit("label")).alias("kind"),
        record.alias("record"),
    )
