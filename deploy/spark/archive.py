"""Reads outcomes from the archive's Parquet files: those that the table's log names, of the days that it takes."""

from __future__ import annotations

import json
from typing import Any

from outcomes import REPEATS_WITHIN, Outcomes, typed
from pyspark.sql import Column, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.types import StructType

from everloop_archive.columns import FieldTypes, field_of
from everloop_archive.layout import FileName, TableName
from everloop_archive.positions import read_range
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import TableLog


class Archive:
    """The archive at `url`, as `EVERLOOP_ARCHIVE` has it."""

    def __init__(self, spark: SparkSession, url: str) -> None:
        self._spark, self._store = spark, ArchiveStore(url)
        self._without_feedback = set[str]()
        """The paths of files that have none: each is asked once."""

    def read(self, loop: str, start: int, end: int, types: FieldTypes) -> Outcomes | None:
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
        schema = StructType.fromJson(json.loads(state.metadata["schemaString"]))
        has_feedback = self._has_feedback(self._paths(log, [name for name in names if name.first <= end]))
        frame = (
            self._spark.read.schema(schema)
            .parquet(*self._paths(log, wanted))
            .select(
                "offset",
                "id",
                "correction",
                _field(state.schema, "label", types.label).alias("label"),
                F.struct(*_features(state.schema, types)).alias("features"),
                "record",
            )
        )
        return Outcomes(frame, log.position(state, wanted[0].partition), has_feedback)

    def _paths(self, log: TableLog, names: list[FileName]) -> list[str]:
        folder = self._store.uri(log.table.folder).replace("s3://", "s3a://", 1)  # as Spark calls it
        return [f"{folder}/{name.path}" for name in names]

    def _has_feedback(self, paths: list[str]) -> bool:
        new = [path for path in paths if path not in self._without_feedback]
        if not new:
            return False
        kinds = self._spark.read.schema("kind string").parquet(*new)
        if not kinds.where("kind = 'feedback'").isEmpty():
            return True
        self._without_feedback.update(new)
        return False


def _features(schema: Any, types: FieldTypes) -> list[Column]:
    columns, parent = schema.field("features").type, F.col("features")
    return [_field(columns, name, kind, parent).alias(name) for name, kind in types.features.items()]


def _field(columns: Any, name: str, kind: str, parent: Column | None = None) -> Column:
    """The values of a field, which has a column for each type that it has had."""
    own = [column.name for column in columns if field_of(column) == name]
    values = [typed(F.col(column) if parent is None else parent[column], kind) for column in own]
    return F.coalesce(*values) if values else typed(F.lit(None), kind)
