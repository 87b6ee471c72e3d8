"""The pages on security and privacy are complete: each row names a test that is there, each setting is documented."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from everloop_schemas.topology import SERVICES
from everloop_shared.settings import Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "shared" / "docs"
FILES = {path.name: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}
COLLECTED = re.compile(r"^(?:    )?(?:async )?def (test_\w+)\(", re.MULTILINE)
STAGES = set(re.findall(r'"(\w+)": Stage\(', (ROOT / "tests" / "acceptance" / "guarded.py").read_text()))
BENCH = (ROOT / "tests" / "bench" / "__main__.py").read_text()
NAMES = {name for text in FILES.values() for name in COLLECTED.findall(text)}


def _rows() -> list[tuple[str, str]]:
    """Each row of a table whose last column names tests: what it is about, and that column."""
    found = []
    for page in ("security.md", "privacy.md"):
        in_table = False
        for line in (DOCS / page).read_text().splitlines():
            cells = [cell.strip() for cell in line.strip("|").split(" | ")] if line.startswith("|") else []
            if not cells or set(line) <= set("|-"):
                in_table = in_table and bool(cells)
            elif cells[-1].strip("| ") == "test":
                in_table = True
            elif in_table:
                found.append((f"{page}: {cells[0]}", cells[-1].strip("| ")))
    return found


ROWS = _rows()


def _is_collected(named: str) -> bool:
    path = ROOT / named
    if named.endswith(".py"):
        return bool(COLLECTED.search(FILES.get(path.name, ""))) and (path.exists() or "/" not in named)
    return named in NAMES or (named.startswith("tests/") and any(path.rglob("test_*.py")))


@pytest.mark.parametrize(("about", "column"), ROWS, ids=[about for about, _ in ROWS])
def test_each_row_of_a_table_names_tests_that_are_collected(about: str, column: str) -> None:
    stages = re.findall(r"`guarded\.py` \(([^)]+)\)", column) + re.findall(r"stage (`\w+`) of", column)
    figures = re.findall(r"`python -m tests\.bench (\w+)`", column)
    named = [name for name in re.findall(r"`((?:tests/|test_)[\w/.]+)`", column) if not name.endswith("guarded.py")]

    assert named or stages
    assert [name for name in named if not _is_collected(name)] == []
    assert {stage for group in stages for stage in re.findall(r"`(\w+)`", group)} <= STAGES
    assert [figure for figure in figures if f'"{figure}"' not in BENCH] == []


@pytest.mark.parametrize("service", ["", *SERVICES])
def test_each_setting_of_a_service_is_on_its_card_and_those_of_all_on_the_pages_for_operators(service: str) -> None:
    pages = "".join((DOCS / f"{name}.md").read_text() for name in ("security", "operations"))
    own, written = set(Settings.model_fields), r"EVERLOOP_(<SERVICE>_)?"
    if service:
        written = rf"(EVERLOOP_({service.upper()}_)?|`_|`)"
        pages += (ROOT / "services" / service / "README.md").read_text()
        module = import_module(f"everloop_{service}.settings")
        kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, Settings)]
        own = {name for kind in kinds for name in kind.model_fields} - own

    missing = [name for name in own if not re.search(rf"{written}{name.upper()}`", pages)]

    assert sorted(missing) == []
