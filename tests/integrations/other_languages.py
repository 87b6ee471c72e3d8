"""An installation that the examples in other languages talk to, and what must have arrived there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.docs.snippets import snippets
from tests.integrations.environments import ROOT
from tests.journeys.installation import Installation, installed, until

from everloop import Everloop, EverloopHTTPError

PAGE = ROOT / "shared/docs/other-languages.md"
LOOP = "page-languages"
NEEDED = ("deploy/examples", "schemas/openapi", "services/serving/everloop_serving/api/open_inference_grpc/protocol")
ROLES = ("publisher", "labeler", "predictor", "viewer")
BUILD_S = 500.0
LABELS = {"published": True, "http": False, "grpc": True}


@contextmanager
def guarded(folder: Path) -> Iterator[Installation]:
    """An installation with access control, and `EVERLOOP_TOKEN_FILE` of a key with few rights and fewer requests."""
    with installed(folder, "--auth") as installation:
        roles = [word for role in ROLES for word in ("--role", role)]
        made = installation.everloop("keys", "create", "shop", *roles, "--limit", "requests_per_s=0.5")
        assert made.returncode == 0, made.stderr
        (folder / "shop.token").write_text(made.stdout.split()[-1])
        yield installation


def checkout(folder: Path) -> Path:
    """A copy of what is committed of the examples and of what they are generated from."""
    listed = subprocess.run(["git", "ls-files", *NEEDED], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listed.stdout.split():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


def run_page(section: str, folder: Path, installation: Installation) -> dict[str, Any]:
    """Run the page's commands up to the first heading and those of a section; what its program printed."""
    parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    [chosen] = [part for part in parts if part.startswith(section)]
    page = folder / "page.md"
    page.write_text(f"{parts[0]}## {chosen}")
    with pytest.MonkeyPatch.context() as patch:
        for snippet in snippets(page):
            done = snippet.run(folder, installation.folder, BUILD_S)
            assert done.returncode == 0, f"{snippet.text}\n{done.stdout}\n{done.stderr}"
            patch.setenv("EVERLOOP_TOKEN_FILE", str(installation.folder / "shop.token"))
    last = done.stdout.splitlines()[-1]
    printed: dict[str, Any] = json.loads(last[last.index("{") :])  # Maven ends with a colour of its own
    return printed


def run_again(command: list[str], folder: Path, installation: Installation, **changed: str) -> dict[str, Any]:
    """Run a program that was built, by hand; what it printed, or its exit status and what it said."""
    services = installation.services()
    env = installation.environment | {
        "EVERLOOP_INGEST_URL": services["ingest"]["url"],
        "EVERLOOP_SERVING_URL": services["serving"]["url"],
        "EVERLOOP_SERVING_GRPC": services["serving"]["grpc"],
        "EVERLOOP_TOKEN_FILE": str(installation.folder / "shop.token"),
    }
    done = subprocess.run(
        command, cwd=folder, env=env | changed, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        return {"status": done.returncode, "said": done.stderr.strip()}
    printed: dict[str, Any] = json.loads(done.stdout)
    return printed


def outcomes(installation: Installation, prefix: str) -> dict[str, Any]:
    """The labels that were joined with predictions whose ids begin so, by the rest of the id."""
    with Everloop(str(installation.folder)) as everloop:
        rows = {row.prediction_id: row.label for row in everloop.dataset(LOOP)}
    return {id.removeprefix(prefix): label for id, label in rows.items() if id.startswith(prefix)}


def check_arrived(installation: Installation, prefix: str, printed: dict[str, Any]) -> None:
    """Each observation was predicted once, as the program was told, in its trace, and has its label."""
    assert printed["again"] == printed["predicted"]
    assert printed["retries"] >= 1
    assert until(lambda: _joined(installation, prefix) == LABELS, 60)
    predictions = installation.read("serving.prediction_made.v1", LOOP)
    made = [event for event in predictions if event["subject"].startswith(prefix)]
    told = {printed[name]["id"]: printed[name]["prediction"] for name in ("published", "predicted", "inferred")}
    assert sorted(e["subject"] for e in made) == sorted(f"{prefix}{name}" for name in LABELS)
    assert {e["subject"]: e["data"]["prediction"] for e in made} == told
    assert {e["traceparent"].split("-")[1] for e in made} == {printed["trace"]}


def _joined(installation: Installation, prefix: str) -> dict[str, Any]:
    try:
        return outcomes(installation, prefix)
    except EverloopHTTPError:  # there is no outcome yet
        return {}
