"""Reads outcomes from the archive's Parquet files: those that the table's log names, of the days that it takes."""

from __future__ import annotations

import json
from typing import Any

from outcomes import REPEATS_WITHIN, Outcomes, typed
from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from everloop_archive.columns import FieldTypes, field_of
from everloop_archive.layout import FileName, TableName
from everloop_archive.positions import read_range
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog


class Archive:
    """The archive at `url`, as `EVERLOOP_ARCHIVE` has it."""

    def __init__(self, spark: SparkSession, url: str, types: FieldTypes) -> None:
        self._spark, self._store, self._types = spark, ArchiveStore(url), types

    def read(self, loop: str, start: int, end: int) -> Outcomes | None:
        """Its outcomes from about `start` to `end`. Raises ArchiveUnavailable."""
        log = TableLog(self._store, TableName("outcomes", loop))
        state = log.read()
        names = [file.name for file in log.files(state.version)]
        wanted = [name for name in names if name.first <= end and name.last >= start - REPEATS_WITHIN]
        if not any(name.last >= start for name in wanted):
            return None
        archived = read_range(self._store, "outcomes", wanted[0].partition)
        if archived is not None and archived.whole_from > start:
            return None
        before = [name for name in names if name.first <= end]
        schema = StructType.fromJson(json.loads(state.metadata["schemaString"]))
        has_feedback = not self._frame(log, schema, before).where("kind = 'feedback'").select("kind").isEmpty()
        frame = self._frame(log, schema, wanted).select(
            "offset",
            "id",
            "correction",
            _field(state.schema, "label", self._types.label).alias("label"),
            F.struct(*self._features(state.schema)).alias("features"),
            "record",
        )
        return Outcomes(frame, log.position(state, wanted[0].partition), has_feedback)

    def _frame(self, log: TableLog, schema: StructType, names: list[FileName]) -> DataFrame:
        folder = self._store.uri(log.table.folder).replace("s3://", "s3a://", 1)  # as Spark calls it
        paths = [f"{folder}/{name.path}" for name in names]
        return self._spark.read.schema(schema).option("basePath", folder).parquet(*paths)

    def _features(self, schema: Any) -> list[Column]:
        columns, parent = schema.field("features").type, F.col("features")
        return [_field(columns, name, kind, parent).alias(name) for name, kind in self._types.features.items()]


def _field(columns: Any, name: str, kind: str, parent: Column | None = None) -> Column:
    """The values of a field, which has a column for each type that it has had."""
    own = [column.name for column in columns if field_of(column) == name]
    values = [typed(F.col(column) if parent is None else parent[column], kind) for column in own]
    return F.coalesce(*values) if values else typed(F.lit(None), kind)
