"""The pages for clients: every snippet of each works against a real installation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.docs.snippets import snippets
from tests.journeys.installation import Installation, installed

PAGES = sorted((Path(__file__).parents[2] / "shared" / "docs" / "clients").glob("*.md"))

pytestmark = [pytest.mark.journey, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for all pages."""
    with installed(tmp_path_factory.mktemp("pages")) as started:
        yield started


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_snippets_of_the_page_run_in_their_order(installation: Installation, page: Path, tmp_path: Path) -> None:
    found = snippets(page)

    assert found
    for snippet in found:
        done = snippet.run(tmp_path, installation.folder)
        assert done.returncode == 0, f"{snippet.text}\n{done.stdout}\n{done.stderr}"
