"""Data sets as Arrow tables; needs pyarrow, which `everloop[data]` brings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]

from everloop_learning.data_set import Row
from everloop_learning.data_set_columns import DescribedDataSet, column_names, fitted

ROWS_PER_BATCH = 10_000
_TYPES = {"boolean": pa.bool_(), "integer": pa.int64(), "number": pa.float64(), "string": pa.string()}


def arrow_schema(data_set: DescribedDataSet) -> Any:
    """The columns of a data set, with its name, digest and number of rows as metadata."""
    offset, time, prediction_id, label = column_names(data_set)
    columns = [(offset, pa.int64()), (time, pa.timestamp("us", tz="UTC")), (prediction_id, pa.string())]
    columns += [(name, _TYPES[kind]) for name, kind in data_set.features.items()]
    columns.append((label, _TYPES[data_set.label]))
    about = {"name": data_set.name, "digest": data_set.digest or "", "rows": str(data_set.rows), "label": label}
    return pa.schema(columns, metadata={f"everloop.{key}": value for key, value in about.items()})


def arrow_batches(data_set: DescribedDataSet, rows: Iterable[Row], size: int = ROWS_PER_BATCH) -> Iterator[Any]:
    """The rows as record batches of at most `size`."""
    schema, gathered = arrow_schema(data_set), list[Row]()
    for row in rows:
        gathered.append(row)
        if len(gathered) == size:
            yield _batch(data_set, schema, gathered)
            gathered = []
    if gathered:
        yield _batch(data_set, schema, gathered)


def _batch(data_set: DescribedDataSet, schema: Any, rows: Sequence[Row]) -> Any:
    columns = [[row.offset for row in rows], [row.time for row in rows], [row.prediction_id for row in rows]]
    columns += [fitted([row.features.get(name) for row in rows], kind) for name, kind in data_set.features.items()]
    columns.append(fitted([row.label for row in rows], data_set.label))
    arrays = [pa.array(values, type=field.type) for values, field in zip(columns, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)
