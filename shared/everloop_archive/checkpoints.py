"""Checkpoints of a table's log: what all commits say together, as one Parquet file (Delta protocol, "Checkpoints")."""

from __future__ import annotations

from collections.abc import Iterable
from io import BytesIO
from typing import Any

import pyarrow as pa  # type: ignore[import-untyped]
import pyarrow.parquet as pq  # type: ignore[import-untyped]

_TEXTS = pa.map_(pa.string(), pa.string())
_SCHEMA = pa.schema(
    {
        "txn": pa.struct({"appId": pa.string(), "version": pa.int64(), "lastUpdated": pa.int64()}),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _TEXTS,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
                "tags": _TEXTS,
            }
        ),
        "remove": pa.struct({"path": pa.string(), "deletionTimestamp": pa.int64(), "dataChange": pa.bool_()}),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _TEXTS}),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "configuration": _TEXTS,
                "createdTime": pa.int64(),
            }
        ),
        "protocol": pa.struct({"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}),
    }
)


def write_checkpoint(actions: Iterable[dict[str, Any]]) -> tuple[bytes, int]:
    """The checkpoint after these actions, and the number of actions in it: the last of each kind that replaces others,
    and every file.
    """
    kept: dict[tuple[str, str], dict[str, Any]] = {}
    for action in actions:
        for kind, body in action.items():
            if kind in _SCHEMA.names and body is not None:
                name = body["path"] if kind == "add" else body["appId"] if kind == "txn" else ""
                kept[kind, name] = {kind: {**body, "dataChange": False} if kind == "add" else body}
    table = pa.Table.from_pylist(list(kept.values()), schema=_SCHEMA)
    file = BytesIO()
    pq.write_table(table, file, compression="zstd")
    return file.getvalue(), len(kept)


def read_checkpoint(data: bytes) -> list[dict[str, Any]]:
    """The actions in a checkpoint, as commits have them; raises ValueError where it is none."""
    try:
        rows = pq.read_table(BytesIO(data)).to_pylist(maps_as_pydicts="strict")
    except pa.ArrowException as e:
        raise ValueError(f"no checkpoint: {e}") from e
    return [{kind: _present(body) for kind, body in _present(row).items()} for row in rows]


def _present(body: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in body.items() if value is not None}
