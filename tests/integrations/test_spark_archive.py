"""Spark reads the archive: as any Spark does, and as the job does, with the rows that training would give."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import outcome_observed
from tests.builders.loops import loop_spec
from tests.everloop_archive.archiving import Placed, archive, placed
from tests.integrations.environments import environment

from everloop_archive.stores import ArchiveStore
from everloop_learning.data_set import Row, RowsDigest
from everloop_learning.learnable import LearnableOutcomes, learned_label
from everloop_learning.outcome import Outcome
from everloop_schemas.feature import OutcomeObserved

PROGRAM = """
import json, sys, tempfile
from pathlib import Path
from types import SimpleNamespace

from archive import Archive
from outcomes import read_rows
from pyspark.sql import functions as F
from session import start_session

from everloop_archive.columns import FieldTypes

url, day, end = sys.argv[1:]
spark = start_session("local[2]", "512m", [], {"spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1"})
outcomes = spark.read.parquet(f"{url}/outcomes")
of_loop = outcomes.where("loop = 'churn'")
of_day = of_loop.where(F.col("day") == F.lit(day).cast("date"))
plan = of_day._jdf.queryExecution().executedPlan().toString()

types = FieldTypes("boolean", {"a": "number", "b": "string"})
run = SimpleNamespace(run="r", data_set_name=f"churn@5..{end}#1")
rows = read_rows(run, None, Archive(spark, url), types, spark, Path(tempfile.mkdtemp()))
opinions = Archive(spark, url).read("opinions", 0, 3, types)
print(json.dumps({
    "types": dict(outcomes.select("loop", "day", "offset", "time", "label", "features.a", "record").dtypes),
    "rows": of_loop.count(),
    "rows_of_day": of_day.count(),
    "pruned_by": plan[plan.index("PartitionFilters"):].partition("]")[0],
    "digest": rows.digest,
    "learned": rows.rows,
    "texts": [row[0] for row in rows.frame.orderBy("offset").select("features.b").collect()],
    "has_feedback": opinions.has_feedback,
}))
"""
NIGHT = datetime(2026, 11, 27, 23, 59, tzinfo=UTC)

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]


def outcomes(start: int, stop: int, b: Any, **changes: Any) -> list[OutcomeObserved]:
    """Outcomes of which every second one is of the next day."""
    return [
        outcome_observed(
            f"p{n}",
            n % 3 == 0,
            loop=changes.get("loop", "churn"),
            predicted=NIGHT + timedelta(hours=n % 2),
            features={"a": n / 2, "b": b},
            **{key: value for key, value in changes.items() if key != "loop"},
        )
        for n in range(start, stop)
    ]


def learned(records: Sequence[Placed], start: int) -> list[Row]:
    """The rows that training gives, from an offset on."""
    rules, rows = LearnableOutcomes(), []
    for offset, event in records:
        assert isinstance(event, OutcomeObserved)
        outcome, data = rules.admit(Outcome.from_event(event, offset)), event.data
        label = None if outcome is None else learned_label(outcome, regression=False)
        if label is not None and offset >= start:
            rows.append(Row(offset, data.predicted, data.prediction_id, data.features, label))
    return rows


def test_spark_reads_the_archive_as_it_is_and_the_job_the_rows_that_training_gives(tmp_path: Path) -> None:
    spark, store = environment("spark"), ArchiveStore(tmp_path.as_uri())
    first = outcomes(0, 20, 1.5)
    again = [*first[3:7], *outcomes(2, 4, 1.5, correction=1)]
    later = outcomes(20, 30, "blue")
    archive(
        store, "churn", placed([*first, *again]), loop_spec(schema={"a": {"type": "number"}, "b": {"type": "number"}})
    )
    changed = loop_spec(schema={"a": {"type": "number"}, "b": {"type": "string"}})
    archive(store, "churn", placed(later, 26), changed)
    archive(store, "opinions", placed(outcomes(0, 4, 1.0, loop="opinions", kind="feedback")))
    command = [spark.python, "-c", PROGRAM, tmp_path.as_uri(), str(NIGHT.date()), "35"]

    done = subprocess.run(command, env=spark.variables, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr[-3_000:]
    read, expected = json.loads(done.stdout), learned(placed([*first, *again, *later]), start=5)
    digest = RowsDigest()
    digest.add(row.encode() for row in expected)
    assert (read["rows"], read["rows_of_day"]) == (36, 18)
    assert read["types"] == {
        **{"loop": "string", "day": "date", "offset": "bigint", "time": "timestamp", "label": "boolean"},
        **{"a": "double", "record": "string"},
    }
    assert "loop" in read["pruned_by"]
    assert "day" in read["pruned_by"]
    assert (read["learned"], read["digest"]) == (25, digest.hexdigest())
    assert read["texts"] == ["1.5"] * 15 + ["blue"] * 10
    assert read["has_feedback"]
