"""An installation whose artifacts and archive lie on S3."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import httpx
import pytest
from tests.journeys.installation import FIELDS, Installation, installed, until
from tests.object_stores import ObjectStore

from everloop_models.store import ArtifactStore

pytestmark = [pytest.mark.integrations, pytest.mark.timeout(300)]
ROWS = 300


@pytest.fixture
def bucket(s3_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    store = s3_store.use(monkeypatch)
    monkeypatch.setenv("EVERLOOP_ARTIFACTS", f"{store.url}/artifacts")
    monkeypatch.setenv("EVERLOOP_ARCHIVE", f"{store.url}/archive")
    monkeypatch.setenv("EVERLOOP_ARCHIVE_SECONDS", "1")
    return store


def served_version(installation: Installation) -> str:
    """The version that answers a prediction by REST."""
    url = installation.services()["serving"]["url"] + "/v1/loops/on-s3/predict"
    answer = httpx.post(url, json={"data": dict.fromkeys(FIELDS, 0.5)}, trust_env=False).json()
    return str(answer.get("version"))


def test_models_and_history_of_an_installation_lie_on_s3_and_are_served_from_there(
    bucket: ObjectStore, electricity: Path, tmp_path: Path
) -> None:
    # given: an installation on S3 that has learned
    with installed(tmp_path) as installation:
        installation.apply("on-s3")
        installation.replay("on-s3", installation.rows(electricity, 0, ROWS))
        assert installation.counted("on-s3", ROWS)["outcomes"] == ROWS
        assert until(lambda: served_version(installation) not in ("0", "None"), 30)

    # when: it is started again without the copies of the artifacts on its own disk
    shutil.rmtree(tmp_path / "serving" / "artifacts")
    with installed(tmp_path) as installation:
        # then: its champion serves, read from S3, and the archive has the whole history
        assert until(lambda: served_version(installation) not in ("0", "None"), 60)
        assert ArtifactStore(f"{bucket.url}/artifacts").files("on-s3")
        verified = until(lambda: archived(installation) >= ROWS, 60)
        assert verified, installation.everloop("archive", "verify", "on-s3", "--json").stderr


def archived(installation: Installation) -> int:
    """The outcomes in the archive, all of which can be read; 0 while there are none."""
    done = installation.everloop("archive", "verify", "on-s3", "--json")
    if done.returncode != 0:
        return 0
    return int(json.loads(done.stdout)["outcomes"]["rows"])
