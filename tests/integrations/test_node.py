"""The Node.js example: built by the page's commands, run against a real installation, and read by the Python client."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integrations.other_languages import check_arrived, checkout, guarded, outcomes, run_again, run_page
from tests.journeys.installation import Installation

pytestmark = [
    pytest.mark.integrations,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here"),
]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One with access control."""
    with guarded(tmp_path_factory.mktemp("node")) as started:
        yield started


def test_the_program_in_typescript_publishes_predicts_by_both_protocols_and_labels(
    installation: Installation, tmp_path: Path
) -> None:
    folder = checkout(tmp_path)
    built, command = folder / "deploy/examples/node", ["node", "dist/main.js", "page-languages"]

    printed = run_page("Node.js", folder, installation)
    again = run_again([*command, "node-17"], built, installation)
    refused = run_again([*command, "node-18"], built, installation, EVERLOOP_TOKEN="evl_of_nobody")
    wrong = run_again(["node", "dist/main.js"], built, installation)

    check_arrived(installation, "node-17-", printed)
    assert [again[name] for name in ("predicted", "inferred")] == [printed[name] for name in ("predicted", "inferred")]
    assert (refused["status"], wrong["status"]) == (1, 2)
    assert "401" in refused["said"]
    assert wrong["said"].startswith("use: node dist/main.js LOOP ID")
    assert outcomes(installation, "node-18-") == {}
