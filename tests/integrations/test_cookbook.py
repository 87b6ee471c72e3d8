"""The cookbook: the commands of its page run, with a real Kafka, a real Spark, and an emulator of BigQuery."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.docs.snippets import FENCE, RUN, Snippet
from tests.integrations.environments import FOLDER, ROOT, environment
from tests.journeys.installation import installed
from tests.warehouse.bigquery_server import PROJECT, bigquery_server

from everloop.warehouse.connection import connect

PAGE = ROOT / "shared" / "docs" / "cookbook" / "log-to-bigquery-spark-and-back.md"

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(900)]


def test_from_the_log_to_bigquery_and_spark_and_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment("spark")
    for name in ("work", "buckets"):
        (tmp_path / name).mkdir()
    given = {
        "SPARK": str(FOLDER / "spark"),
        "EVERLOOP_SOURCE": str(ROOT),
        "EVERLOOP_ARCHIVE": (tmp_path / "archive").as_uri(),
        "EVERLOOP_ARCHIVE_SECONDS": "1",
        "PROJECT": PROJECT,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)

    with bigquery_server(tmp_path / "buckets") as url, installed(tmp_path / "data") as installation:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        bigquery = connect(PROJECT)
        bigquery.create_dataset("everloop")
        for language, text in FENCE.findall(PAGE.read_text()):
            if language in RUN:
                done = Snippet(language, text).run(tmp_path / "work", installation.folder, seconds=300)
                assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
            elif language == "sql":
                rows = [dict(row) for row in bigquery.query(text).result()]

    assert sum(row["orders"] for row in rows) == 400
    assert all(0 <= row["accuracy"] <= 1 for row in rows)
