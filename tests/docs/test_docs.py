"""The documentation agrees with the project: links, decisions, topics and ports."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import FOREVER

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "shared" / "docs"
DECISIONS = sorted((DOCS / "decisions").glob("*.md"))
PAGES = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *ROOT.glob("services/*/README.md"),
        *DOCS.rglob("*.md"),
        *ROOT.glob("deploy/**/*.md"),
    )
    if not {".venv", "node_modules"} & set(path.parts)
)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
DAY_MS = 86_400_000
FILES = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
TESTS = "".join((ROOT / path).read_text() for path in FILES if path.startswith("tests/") and path.endswith(".py"))


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    broken = []
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if link.startswith(("http:", "https:")):
            continue
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_decision_that_is_mentioned_exists() -> None:
    numbers = {page.name[:4] for page in DECISIONS}
    found = subprocess.run(
        ["git", "grep", "-nohE", r"[Dd]ecisions? [0-9]{4}\b"], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert {mention[-4:] for mention in found.stdout.split("\n") if mention} <= numbers


@pytest.mark.parametrize("page", DECISIONS, ids=lambda page: page.name[:4])
def test_the_title_of_a_decision_names_its_component_and_its_choice(page: Path) -> None:
    title = page.read_text().partition("\n")[0]

    named = re.fullmatch(r"# (\d{4}) ([A-Z][\w ]+): (.+)", title)

    assert named, title
    words = re.sub(r"[^a-z0-9]+", "-", f"{named[2]}: {named[3]}".lower()).strip("-")
    assert page.name == f"{named[1]}-{words}.md"


def test_the_architecture_lists_every_topic_with_its_key_and_retention() -> None:
    rows = re.findall(
        r"^\| `([\w.]+)`[^|]* \| ([^|]+) \| ([^|]+) \|", (DOCS / "architecture.md").read_text(), re.MULTILINE
    )
    documented = {topic: (key, kept) for topic, key, kept in rows if topic.endswith(".v1")}

    expected = {}
    for name, topic in TOPICS.items():
        if not name.endswith(".dead_letter.v1"):
            kept = "compacted" if topic.compacted else "forever"
            if topic.retention_ms != FOREVER:
                kept = f"{topic.retention_ms // DAY_MS} days"
            expected[name] = (topic.keyed_by, kept)

    assert {name: (_key(key), kept) for name, (key, kept) in documented.items()} == expected


def _key(documented: str) -> str:
    return documented if documented == "loop" else "loop/subject"


@pytest.mark.parametrize("page", [p for p in PAGES if p.name != "style.md"], ids=lambda page: page.name)
def test_every_file_and_test_that_a_page_names_exists(page: Path) -> None:
    named = re.findall(r"`([\w/.*-]+\.(?:py|yml|toml|lock|txt|html|sh|sql))`", page.read_text())
    tests = re.findall(r"(?:`|::)(test_\w+)`", page.read_text())

    missing = [name for name in named if not any(_names(name, path) for path in FILES)]
    missing += [name for name in tests if f"def {name}(" not in TESTS]

    assert missing == []


def _names(name: str, path: str) -> bool:
    return re.search(rf"(^|/){re.escape(name).replace(re.escape('*'), '[^/]*')}$", path) is not None
