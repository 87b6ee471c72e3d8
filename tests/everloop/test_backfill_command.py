"""`everloop backfill`: history with its own times, once, refused rows by field, and nothing half done when it stops."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import outcome_observed
from tests.everloop.conftest import Served
from tests.everloop_archive.archiving import archive, placed
from tests.journeys.installation import until
from typer.testing import CliRunner

from everloop.cli import build
from everloop_archive.stores import ArchiveStore
from everloop_schemas.ingest import EventReceived, LabelReceived

pytestmark = pytest.mark.app


def run(*args: str) -> Any:
    return CliRunner().invoke(build(), ["backfill", *args])


def history(folder: Path, rows: int = 30, *more: str) -> str:
    """A file of hours, the newest first."""
    first = datetime(2019, 5, 1, 0, 30)
    lines = [f"{first + timedelta(hours=n)},{n},{n % 2}" for n in reversed(range(rows))]
    (folder / "history.csv").write_text("\n".join(["at,price,class", *lines, *more]) + "\n")
    return str(folder / "history.csv")


def test_history_becomes_observations_and_labels_in_the_order_of_their_times(installation: Served) -> None:
    done = run("market", history(installation.folder), "--time", "at", "--label", "class")

    events, labels = installation.events(EventReceived.topic), installation.events(LabelReceived.topic)
    assert done.exit_code == 0, done.stderr
    assert "30 rows and 30 labels sent" in done.stdout
    assert [e.time.isoformat() for e in events] == sorted(e.time.isoformat() for e in events)
    assert events[0].time.isoformat() == "2019-05-01T00:30:00+00:00"
    assert [e.data.fields["price"] for e in events] == list(range(30))
    assert {(label.subject, label.time) for label in labels} == {(e.id, e.time) for e in events}


def test_the_same_history_again_is_the_same_events(installation: Served) -> None:
    file = history(installation.folder)

    for _ in range(2):
        assert run("market", file, "--time", "at", "--label", "class").exit_code == 0

    events, labels = installation.events(EventReceived.topic), installation.events(LabelReceived.topic)
    assert len({e.id for e in events}) == len({e.id for e in labels}) == 30


def test_rows_whose_outcomes_the_loop_has_are_not_sent_again(installation: Served) -> None:
    file = history(installation.folder)
    run("market", file, "--time", "at", "--label", "class")
    events = installation.events(EventReceived.topic)
    outcomes = [outcome_observed(e.id, True, loop="market", predicted=e.time) for e in events[:20]]
    for outcome in outcomes:
        asyncio.run(installation.outcomes.append(outcome.topic.name, outcome.key(), outcome.encode()))

    done = run("market", file, "--time", "at", "--label", "class", "--json")

    counts = json.loads(done.stdout)
    assert (counts["already"], counts["sent"]["accepted"]) == (20, 10)


def test_a_dry_run_sends_nothing_and_reports_refused_rows_by_field(installation: Served) -> None:
    file = history(installation.folder, 10, "soon,1,1", "2019-05-01,high,1", "2019-05-01,low,1", "2019-05-02,1,perhaps")

    done = run("market", file, "--time", "at", "--label", "class", "--dry-run")

    assert done.exit_code == 0
    assert "14 rows read, 11 fit the loop, 10 of them with labels" in done.stdout
    assert "data.price: 2 rows refused, the first is row 12" in done.stderr
    assert "at: 1 rows refused, the first is row 11" in done.stderr
    assert "class: 1 rows refused, the first is row 14" in done.stderr
    assert installation.events(EventReceived.topic) == []


def test_a_source_without_a_column_of_times_says_which_it_has(installation: Served) -> None:
    done = run("market", history(installation.folder))

    assert done.exit_code == 1
    assert "has no column time; its columns are at, price, class" in done.stderr


def test_an_archive_is_history_too_and_its_corrections_count(installation: Served) -> None:
    store = ArchiveStore((installation.folder / "lake").as_uri())
    first = [outcome_observed(f"p{n}", False, loop="shop", features={"price": float(n)}) for n in range(5)]
    corrected = outcome_observed("p1", True, loop="shop", features={"price": 1.0}, correction=1)
    archive(store, "shop", placed([*first, corrected]))

    done = run("market", store.url, "--from-loop", "shop")

    labels = {label.subject: label.data.label for label in installation.events(LabelReceived.topic)}
    assert done.exit_code == 0, done.stderr
    assert labels == {"p0": False, "p1": True, "p2": False, "p3": False, "p4": False}
    assert {e.id for e in installation.events(EventReceived.topic)} == set(labels)


@pytest.mark.timeout(60)
def test_ctrl_c_leaves_every_row_that_was_sent_with_its_label(installation: Served) -> None:
    file = history(installation.folder, 20_000)
    command = [sys.executable, "-m", "everloop", "backfill", "market", file, "--time", "at", "--label", "class"]
    process = subprocess.Popen(command, env={**os.environ, "NO_COLOR": "1"}, stderr=subprocess.PIPE, text=True)
    assert until(lambda: installation.events(EventReceived.topic), 30)

    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=30)

    events, labels = installation.events(EventReceived.topic), installation.events(LabelReceived.topic)
    assert process.returncode == 1
    assert "run it again" in said
    assert 0 < len(events) < 20_000
    assert sorted(e.id for e in events) == sorted(label.subject for label in labels)
