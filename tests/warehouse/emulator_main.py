"""Starts bqemulator, in its own environment, without what it fetches from elsewhere, and with the loads of BigQuery.

BigQuery loads columns by name, turns a map into a repeated record where the load job says so, and leaves a failed job
without effect; the emulator loads by position, and cannot cast maps.
"""

from __future__ import annotations

from typing import Any

from bqemulator.cli import main  # type: ignore[import-not-found]
from bqemulator.jobs import executor  # type: ignore[import-not-found]
from bqemulator.storage.engine import DuckDBEngine  # type: ignore[import-not-found]


def load_parquet(path: str, target_ref: str, ctx: Any) -> None:
    """Insert a Parquet file by the names of its columns, maps as lists of key and value."""
    columns = ctx.engine.execute("DESCRIBE SELECT * FROM read_parquet(?, hive_partitioning = false)", [path]).fetchall()
    maps = {name for name, kind, *_ in columns if "MAP(" in kind}
    expressions = []
    if "probabilities" in maps:
        expressions.append("map_entries(probabilities) AS probabilities")
    if "shadows" in maps:
        others = "version := s.version, prediction := s.prediction"
        value = f"struct_pack({others}, probabilities := map_entries(s.probabilities))"
        expressions.append(f"list_transform(shadows, lambda s: {value}) AS shadows")
    replaced = f"REPLACE ({', '.join(expressions)})" if expressions else ""
    ctx.engine.execute(
        f"INSERT INTO {target_ref} BY NAME SELECT * {replaced} FROM read_parquet(?, hive_partitioning = false)", [path]
    )


setattr(DuckDBEngine, "_load_spatial", lambda self: None)  # noqa: B010  # its functions come from the internet
getattr(executor, "_LOAD_FORMAT_HANDLERS")["PARQUET"] = load_parquet  # noqa: B009

if __name__ == "__main__":
    main()
