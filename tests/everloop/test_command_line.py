"""The program as people and scripts use it: what it prints, where, and with which exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner, Result

from everloop.cli import build
from everloop_schemas.ingest import EventReceived, LabelReceived

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app

STATUS: dict[str, Any] = {
    "events": 6000,
    "predictions": 6000,
    "outcomes": 5999,
    "dead_letters": 0,
    "champion": {"version": "logistic-0@5900", "since": "2024-05-01T12:00:00+00:00"},
    "rollout": {"stage": "canary", "share": 0.25, "candidate": "forest-0@5900"},
    "accuracy": {"served": 0.86, "rolling": 0.87, "no_change": 0.85, "majority": 0.57},
    "drifts": 1,
    "runs": 2,
    "versions": 60,
    "promotions": 1,
    "rollbacks": 0,
}
LOOP_FILE = "loop: market\ntask: binary\nschema: {price: {type: number}}\n"
ROWS = "price,class\n" + "".join(f"{i},{i % 2}\n" for i in range(30))


def run(*args: str, stdin: str | None = None) -> Result:
    """Run the program in this process."""
    return CliRunner().invoke(build(), args, input=stdin, prog_name="everloop")


def test_every_command_has_an_example_in_its_help() -> None:
    commands = [c.name or "" for c in build().registered_commands]

    pages = {name: run(name, "--help").output for name in commands}

    assert {"apply", "status", "replay", "publish", "predict", "label", "feedback", "up", "down"} <= set(commands)
    assert [name for name, page in pages.items() if f"Example: everloop {name}" not in " ".join(page.split())] == []


def test_the_version_is_that_of_the_distribution() -> None:
    out = run("--version")

    assert (out.exit_code, out.stdout) == (0, f"everloop {metadata.version('everloop')}\n")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_are_printed(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")

    out = run("--show-completion", shell)

    assert out.exit_code == 0
    assert "_EVERLOOP_COMPLETE" in out.stdout


def test_delete_asks_for_the_name_or_takes_yes(installation: Served) -> None:
    wrong = run("delete", "market", stdin="markt\n")
    typed = run("delete", "market", "--reason", "over & out", "--json", stdin="market\n")
    confirmed = run("delete", "market", "--yes")

    assert (wrong.exit_code, typed.exit_code, confirmed.exit_code) == (1, 0, 0)
    assert "nothing was deleted" in wrong.output
    assert json.loads(typed.stdout) == {"loop": "market", "deleted": "over & out"}
    assert "everloop history market" in confirmed.stdout
    assert [path for path, _ in installation.seen] == ["/v1/loops/market"] * 2


@pytest.mark.parametrize("body", ['{"price": 1.5}', '{"data": {"price": 1.5}}', "-", "@"])
def test_publish_takes_fields_an_event_a_file_or_standard_input(installation: Served, body: str) -> None:
    file = installation.folder / "event.json"
    file.write_text('{"price": 1.5}')

    out = run(
        "publish", "market", f"@{file}" if body == "@" else body, "--id", "mine", "--json", stdin='{"price": 1.5}'
    )

    [event] = installation.events(EventReceived.topic)
    assert (out.exit_code, json.loads(out.stdout)["ids"]) == (0, ["mine"])
    assert event.data.fields["price"] == 1.5


def test_publish_takes_lines_and_names_the_refused_ones(installation: Served) -> None:
    lines = '{"data": {"price": 1}}\n{"data": {"price": "x"}}\n'

    out = run("publish", "market", stdin=lines)

    assert out.exit_code == 1
    assert "1 event accepted" in out.stdout
    assert "number 2: data.price: must be a finite number" in out.stderr


def test_predict_label_and_feedback(installation: Served) -> None:
    asked = run("predict", "market", '{"price": 1.5}', "--id", "ask-1", "--json")
    explained = run("predict", "market", '{"price": 1.5}', "--explain")
    labelled = run("label", "market", "ask-1", "true")
    wrong = run("feedback", "market", "ask-1", "--wrong", "--source", "reviewer")
    undecided = run("feedback", "market", "ask-1")
    bad = run("label", "market", "ask-1", "3")

    data = {e.data.kind: e.data for e in installation.events(LabelReceived.topic)}
    assert (asked.exit_code, json.loads(asked.stdout)["id"]) == (0, "ask-1")
    assert explained.stdout.splitlines()[1:] == [
        "Explained by permutation: true",
        "        +0.5  base",
        "          +0  price",
        "        +0.5  score",
    ]
    assert (labelled.exit_code, data["label"].label) == (0, True)
    assert (wrong.exit_code, data["feedback"].correct, data["feedback"].source) == (0, False, "reviewer")
    assert undecided.exit_code == 2
    assert (bad.exit_code, bad.stderr[:41]) == (1, "everloop: label: '3' is neither true (1, ")


def test_apply_reports_the_change_and_waits_for_the_services(installation: Served) -> None:
    file = installation.folder / "loop.yaml"
    file.write_text(LOOP_FILE)

    plain, as_json = run("apply", "-f", str(file)), run("apply", "-f", str(file), "--json")

    assert (plain.exit_code, plain.stdout.strip()) == (0, "market unchanged, revision 3")
    assert json.loads(as_json.stdout) == {"loop": "market", "revision": 3, "change": "unchanged"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loop: market\nmodels: [{estimator: os.system}]\n", "models.0.estimator: is not a river class"),
        ("loop: [\n", "is not YAML"),
        ("just text", "is no loop file"),
        ("task: binary\n", "loop: is missing"),
        ("loop: Big Loop\n", "loop: 'Big Loop'"),
        ("loop: 010\n", "loop: '10'"),
        ("loop: true\n", "loop: 'True'"),
        ("loop: market\nloop: market\n", "there twice"),
        ("loop: &a [*a]\n", "loop: '[[...]]'"),
        ("loop: !!python/name:os.system x\n", "is not YAML"),
        ("loop: " + "[" * 100_000, "levels"),
        ("loop: " + "9" * 5000, "is not YAML"),
    ],
)
def test_a_bad_loop_file_is_refused_naming_the_field(installation: Served, text: str, message: str) -> None:
    file = installation.folder / "loop.yaml"
    file.write_text(text)

    out = run("apply", "-f", str(file))

    assert (out.exit_code, out.stdout) == (1, "")
    assert message in out.stderr
    assert "Traceback" not in out.stderr


def test_a_missing_file_is_an_error(installation: Served) -> None:
    out = run("apply", "-f", "nowhere.yaml")

    assert (out.exit_code, out.stderr.strip()) == (
        1,
        "everloop: nowhere.yaml cannot be read: No such file or directory",
    )


def test_status_is_json_for_programs_and_a_page_for_people(installation: Served) -> None:
    installation.status.update(STATUS)

    as_json, page, table = run("status", "market", "--json"), run("status", "market"), run("status")

    assert json.loads(as_json.stdout) == STATUS
    assert all(text in page.stdout for text in ("logistic-0@5900", "canary 25% forest-0@5900", "6,000", "0.8600"))
    assert "logistic-0@5900" in table.stdout
    assert "\x1b" not in page.stdout + table.stdout


def test_without_an_installation_one_sentence_has_the_fix(tmp_path: Path) -> None:
    out = run("status", "market", "--data", str(tmp_path))

    assert out.exit_code == 1
    assert out.stderr.startswith(f"everloop: No local installation at {tmp_path}.")


@pytest.mark.parametrize("wrong", [["bogus"], ["replay", "m", "f", "--rate", "fast"], ["replay"], ["label", "m", "id"]])
def test_wrong_use_ends_with_2(wrong: list[str]) -> None:
    assert run(*wrong).exit_code == 2


def test_replay_twice_gives_the_same_events_and_labels(installation: Served) -> None:
    file = installation.folder / "rows.csv"
    file.write_text(ROWS)

    outs = [run("replay", "market", str(file), "--label-column", "class", "--json") for _ in range(2)]

    events, labels = installation.events(EventReceived.topic), installation.events(LabelReceived.topic)
    counts = json.loads(outs[0].stdout)
    assert [o.exit_code for o in outs] == [0, 0]
    assert {k: counts[k] for k in ("sent", "accepted", "rejected", "labels")} == {
        "sent": 30, "accepted": 30, "rejected": 0, "labels": 30
    }  # fmt: skip
    assert (len(events), len({e.id for e in events})) == (60, 30)
    assert (len(labels), len({e.id for e in labels})) == (60, 30)
    assert {e.subject for e in labels} == {e.id for e in events}
    assert "each followed by its labels" in outs[0].stderr
    assert "--lockstep waits for each outcome" in outs[0].stderr


def test_replay_survives_faults_and_names_refused_rows(installation: Served) -> None:
    file = installation.folder / "rows.csv"
    file.write_text(ROWS + "high,1\n31,perhaps\n")
    installation.faults += [503, 0, 429]

    out = run("replay", "market", str(file), "--label-column", "class", "--label-delay", "5", "--rate", "2000")

    assert out.exit_code == 0
    assert "31 rows accepted, 1 refused, 30 labels" in out.stdout
    assert "row 31: data.price: 'high' is no finite number" in out.stderr
    assert "row 32: class: 'perhaps' is neither true" in out.stderr
    assert "retrying" in out.stderr


def test_replay_without_its_column_or_file_fails_in_one_sentence(installation: Served) -> None:
    file = installation.folder / "rows.csv"
    file.write_text(ROWS)

    column = run("replay", "market", str(file), "--label-column", "klass")
    missing = run("replay", "market", "nowhere.csv")
    loop = run("replay", "nowhere", str(file))

    assert [o.exit_code for o in (column, missing, loop)] == [1, 1, 1]
    assert "has no column klass; its columns are price, class" in column.stderr
    assert "nowhere.csv cannot be read" in missing.stderr
    assert "loop" in loop.stderr


@pytest.mark.process
def test_ctrl_c_ends_a_replay_with_its_summary(installation: Served) -> None:
    file = installation.folder / "rows.csv"
    file.write_text(ROWS)
    command = [sys.executable, "-c", "from everloop.cli import main; main()", "replay", "market", str(file)]

    with subprocess.Popen([*command, "--rate", "5", "--json"], stdout=-1, stderr=-1, env=os.environ) as process:
        while len(installation.events(EventReceived.topic)) < 2:  # the first has been answered then
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        out, error = process.communicate(timeout=20)

    assert process.returncode == 1
    assert json.loads(out)["accepted"] >= 1
    assert json.loads(out)["ended"].startswith("interrupted")
    assert error.decode().splitlines()[-1].startswith("everloop: interrupted")
