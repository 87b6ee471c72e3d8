"""`everloop diff` on the real registry, and `everloop validate` without one."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
from tests.everloop.served_services import served
from tests.everloop.test_command_line import run
from tests.registry.registry_harness import LOOP_FILE, YAML

from everloop.cli import diff_views

REFUSED = {
    "a typo": LOOP_FILE + "metrik: accuracy\n",
    "a rule": LOOP_FILE + "refresh: {every: 0}\nlabel: {within: 0s}\n",
    "a feature": LOOP_FILE + "features: [{name: x, expr: 'price - nothing'}]\n",
    "the budget": LOOP_FILE
    + "features:\n"
    + "".join(f"- {{name: m{i}, std: price, over: 9999 events}}\n" for i in range(10)),
    "no YAML": "loop: market\ntask: [",
    "no name": "task: binary",
}


@pytest.mark.app
@pytest.mark.timeout(120)
def test_a_folder_of_files_is_told_as_tables_json_and_markdown(tmp_path: Path) -> None:
    folder = tmp_path / "loops"
    folder.mkdir()
    changed = LOOP_FILE + "features: [{fields: all}, {name: usual, mean: price, over: 12 events}]\nmetric: log_loss\n"
    (folder / "market.yaml").write_text(changed)
    (folder / "shop.yml").write_text(LOOP_FILE.replace("market", "shop"))
    (folder / "notes.txt").write_text("no loop file")
    (tmp_path / "wrong.yaml").write_text(REFUSED["a typo"])
    (tmp_path / "same.yaml").write_text(LOOP_FILE)
    with served(tmp_path, "registry") as services:
        loop = services.urls["registry"] + "/v1/loops/market"
        httpx.put(loop, content=LOOP_FILE, headers=YAML, timeout=30).raise_for_status()
        data, whole = ("--data", str(tmp_path)), ("-f", str(folder))
        table = run("diff", *whole, "--exit-code", *data)
        told = run("diff", *whole, "--json", *data)
        comment = run("diff", *whole, "--markdown", *data)
        same = run("diff", "-f", "-", "--exit-code", *data, stdin=LOOP_FILE)
        refused = run("diff", "-f", str(tmp_path / "same.yaml"), "-f", str(tmp_path / "wrong.yaml"), "--json", *data)
        nothing = run("diff", "-f", str(tmp_path / "artifacts" / "none.yaml"), *data)
        after = httpx.get(loop).json()

    assert (table.exit_code, told.exit_code, comment.exit_code) == (3, 0, 0), table.output
    assert "market would change from revision 1 to 2" in table.stdout
    assert "shop would be created" in table.stdout
    assert " ".join("usual mean of price over 12 events starts empty".split()) in " ".join(table.stdout.split())
    assert [(one["loop"], one["change"]) for one in json.loads(told.stdout)] == [
        ("market", "changed"),
        ("shop", "created"),
    ]
    assert "| `metric` | `accuracy` | `log_loss` |" in comment.stdout
    assert (same.exit_code, "stay as it is, revision 1" in same.stdout) == (0, True)
    [kept, wrong] = json.loads(refused.stdout)
    assert (refused.exit_code, kept["change"], wrong["change"]) == (1, "unchanged", "refused")
    assert wrong["errors"] == [{"field": "metrik", "error": "is not known; did you mean metric?"}]
    assert (nothing.exit_code, "cannot be read" in nothing.stdout) == (1, True)
    assert (after["revision"], after["spec"]["metric"]) == (1, "accuracy")


@pytest.mark.app
@pytest.mark.timeout(120)
def test_validate_says_without_a_registry_what_the_registry_says(tmp_path: Path) -> None:
    for name, text in {**REFUSED, "sound": LOOP_FILE}.items():
        (tmp_path / f"{name}.yaml").write_text(text)
    files = [part for name in (*REFUSED, "sound") for part in ("-f", str(tmp_path / f"{name}.yaml"))]

    offline = run("validate", *files, "--json")
    with served(tmp_path, "registry"):
        asked = run("diff", *files, "--json", "--data", str(tmp_path))

    said = {one["file"]: one["errors"] for one in json.loads(offline.stdout)}
    applied = {one["file"]: one.get("errors", []) for one in json.loads(asked.stdout)}
    by_hand = {str(tmp_path / f"{name}.yaml") for name in ("no YAML", "no name")}  # not even sent
    assert (offline.exit_code, asked.exit_code) == (1, 1)
    assert {file: errors for file, errors in said.items() if file not in by_hand} == {
        file: errors for file, errors in applied.items() if file not in by_hand
    }
    assert [bool(said[str(tmp_path / f"{name}.yaml")]) for name in (*REFUSED, "sound")] == [True] * 6 + [False]


def test_a_folder_without_loop_files_is_refused(tmp_path: Path) -> None:
    told = run("validate", "-f", str(tmp_path))

    assert (told.exit_code, "their names end with .yaml or .yml" in told.stderr) == (1, True)


def test_what_a_file_says_is_no_markup_in_a_comment() -> None:
    hostile = "x`|</td><img src=a>@all [a](http://b)\n# head\x1b[31m"
    refused = {"file": "a.yaml", "loop": None, "change": "refused", "errors": [{"field": hostile, "error": hostile}]}
    changed = {
        **{"file": f"{hostile}.yaml", "loop": "a", "change": "changed", "revision": 1, "features": [], "effects": []},
        **{"lines": [], "cost": {"before": 1.0, "after": 2.0, "limit": 3.0}},
        "fields": [{"path": "label.classes", "before": None, "after": [hostile]}],
    }

    said = diff_views.markdown([refused, changed])

    lines = [line for line in said.splitlines() if "img" in line]
    assert [line[:3] for line in lines] == ["- `", "###", "| `"]
    assert "\\|\\<" in lines[1]
    assert all("\\|" in line for line in lines)
    assert "\x1b" not in said
    assert not any(line.startswith("# ") for line in said.splitlines())


def test_the_name_of_a_checked_file_is_no_markup_in_a_comment() -> None:
    said = diff_views.checked_markdown([{"file": "### [a](http://b).yaml", "loop": "a", "errors": []}])

    assert said == "### \\#\\#\\# \\[a\\]\\(http://b\\).yaml: a is sound"


def test_a_long_diff_fits_a_comment() -> None:
    fields = [{"path": f"schema.f{i}.max", "before": i, "after": "9" * 500} for i in range(1_000)]
    cost = {"before": 1.0, "after": 2.0, "limit": 3.0}
    one = {"file": "a.yaml", "loop": "a", "change": "changed", "revision": 1, "fields": fields}

    said = diff_views.markdown([{**one, "features": [], "lines": [], "effects": [], "cost": cost}])

    assert len(said) < 65_536
    assert said.splitlines()[-1].startswith("The rest of ")
    assert said.splitlines()[-3].endswith("…` |"), "whole rows"
