"""`everloop archive`: what it prints about an archive, with which exit status, without any installation."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.everloop_archive.archiving import archive, archive_reaches, placed
from tests.training.training_harness import event
from typer.testing import CliRunner, Result

from everloop.cli import build
from everloop_archive.positions import ArchivedRange
from everloop_archive.stores import ArchiveStore

pytestmark = pytest.mark.app


@pytest.fixture
def root(tmp_path: Path) -> Path:
    store = ArchiveStore((tmp_path / "lake").as_uri())
    archive(store, "market", placed((event(i) for i in range(1_500)), 100), commits=2)
    archive(store, "other", placed(event(i, loop="other") for i in range(10)))
    archive_reaches(store, ArchivedRange(0, 1_600).with_gap(50, 60))
    return tmp_path / "lake"


def run(root: Path | None, *args: str) -> Result:
    """Run the program; EVERLOOP_ARCHIVE is the archive."""
    env = {"EVERLOOP_ARCHIVE": "" if root is None else root.as_uri()}
    return CliRunner().invoke(build(), ("archive", *args), prog_name="everloop", env=env)


def read(root: Path, *args: str) -> Any:
    return json.loads(run(root, *args, "--json").stdout)


def test_ls_lists_the_tables_of_all_loops(root: Path) -> None:
    out = run(root, "ls")

    assert (out.exit_code, out.stderr) == (0, "")
    assert re.search(r"market +outcomes +1,500 +3 .*2026-01-01 to 2026-01-02", out.stdout)
    assert [(t["loop"], t["rows"], t["files"]) for t in read(root, "ls")] == [("market", 1_500, 3), ("other", 10, 1)]


def test_the_url_may_be_an_option(root: Path) -> None:
    assert json.loads(run(None, "ls", "--archive", str(root), "--json").stdout) == read(root, "ls")


def test_status_shows_positions_gaps_and_columns(root: Path) -> None:
    out = run(root, "status", "market")

    assert out.exit_code == 0
    assert "outcomes of market" in out.stdout
    assert re.search(r"0 +1,500 +3 +100 to 1,599 +0 +1,600 +50 to 59", out.stdout)
    assert "struct<a: double, b: double>" in out.stdout
    [table] = read(root, "status", "market")
    assert table["partitions"] == [
        {"partition": 0, "first": 100, "last": 1_599, "rows": 1_500, "files": 3}
        | {"since": 0, "archived": 1_600, "gaps": [[50, 60]]}
    ]


def test_verify_reads_everything_and_gives_digests(root: Path) -> None:
    out = run(root, "verify", "market")

    assert (out.exit_code, out.stderr) == (0, "")
    [checked] = read(root, "verify", "market")["outcomes"]["partitions"]
    assert (checked["rows"], checked["first"], checked["last"]) == (1_500, 100, 1_599)
    assert re.search(rf"outcomes +0 +1,500 +100 to 1,599 +{checked['sha256']} +none", out.stdout)


def test_verify_names_each_damaged_file_and_fails(root: Path) -> None:
    first, second, *_ = sorted((root / "outcomes" / "loop=market").glob("day=*/*.parquet"))
    first.unlink()
    second.write_bytes(second.read_bytes()[:-7])

    out = run(root, "verify", "market")

    assert out.exit_code == 1
    assert [name in out.stderr for name in (first.name, second.name)] == [True, True]
    problems = read(root, "verify", "market")["outcomes"]["problems"]
    assert [problem["partition"] for problem in problems] == [0, 0]
    assert run(root, "verify", "other").exit_code == 0


def test_iceberg_registers_once_and_then_what_is_new(root: Path) -> None:
    catalog = f"sqlite:///{root.parent}/catalog.db"

    first = run(root, "iceberg", "market", "--catalog", catalog)
    [again] = read(root, "iceberg", "market", "--catalog", catalog)

    assert first.exit_code == 0, first.output
    assert re.search(r"everloop\.market_outcomes +3 +3 +1,500", first.stdout)
    assert (again["added"], again["files"], again["rows"]) == (0, 3, 1_500)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("status", "unknown"), "has no table of loop unknown; see: everloop archive ls"),
        (("verify", "market", "--table", "predictions"), "has no table of predictions of loop market"),
        (("ls", "--archive", "nowhere://x"), "nowhere"),
        (("iceberg", "market", "--catalog", "ftp://x"), "the catalog at ftp://x cannot take the files"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(root: Path, args: tuple[str, ...], said: str) -> None:
    out = run(root, *args)

    assert (out.exit_code, out.stdout) == (1, "")
    assert said in out.stderr
    assert "Traceback" not in out.output


def test_without_a_url_the_command_says_where_to_set_it() -> None:
    out = run(None, "ls")

    assert out.exit_code == 1
    assert "EVERLOOP_ARCHIVE" in out.stderr


def test_an_empty_archive_is_no_failure(tmp_path: Path) -> None:
    out = run(tmp_path, "ls")

    assert (out.exit_code, out.stdout) == (0, "")
    assert "has no table yet" in out.stderr


@pytest.mark.parametrize("command", ["ls", "status", "verify", "iceberg"])
def test_every_command_has_an_example_in_its_help(command: str) -> None:
    page = " ".join(run(None, command, "--help").output.split())

    assert f"Example: everloop archive {command}" in page
    assert "EVERLOOP_ARCHIVE" in page
