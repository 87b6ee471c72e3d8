"""`make sbom` lists what images hold (CycloneDX), and the workflows name what they run by its commit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml
from tests.compose.stack import ROOT

from everloop_schemas.topology import SERVICES


def test_the_list_of_a_lock_has_every_package(tmp_path: Path) -> None:
    lock, listed = ROOT / "deploy/requirements/build.lock", tmp_path / "build.cdx.json"
    packages = set(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", lock.read_text(), re.MULTILINE))

    made = [sys.executable, "-m", "cyclonedx_py", "requirements", str(lock), "--no-validate", "-o", str(listed)]
    subprocess.run(made, check=True, capture_output=True, timeout=50)

    found = json.loads(listed.read_text())
    assert found["bomFormat"] == "CycloneDX"
    assert {(each["name"], each["version"]) for each in found["components"]} == packages
    assert len(packages) > 3


def test_make_sbom_and_the_workflow_list_every_image() -> None:
    [images] = re.findall(r"^IMAGES := (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    workflow = yaml.safe_load((ROOT / ".github/workflows/images.yml").read_text())
    build = workflow["jobs"]["build"]

    assert images.split() == [*SERVICES, "acls", "operator"] == build["strategy"]["matrix"]["service"]
    actions = [step["uses"] for job in workflow["jobs"].values() for step in job["steps"] if "uses" in step]
    assert [action for action in actions if not re.search(r"@[0-9a-f]{40}$", action)] == []
    [listing] = [step["with"] for step in build["steps"] if "sbom-action" in step.get("uses", "")]
    assert listing["format"] == "cyclonedx-json"
    [built] = [step["with"] for step in build["steps"] if "build-push-action" in step.get("uses", "")]
    assert "mode=max" in built["provenance"]
    assert any("attest-build-provenance" in action for action in actions)
