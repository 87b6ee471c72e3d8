"""Versions of the registry, downloaded and loaded by MLflow's own client as any model of MLflow's."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.registry.mlflow_api import MlflowHarness, imported_mlflow, mlflow_registry
from tests.registry.registry_harness import apply_file, run_to_canary, store_model

from everloop_models import verify_and_load
from everloop_models.model import OnlineModel
from everloop_models.store import ArtifactStore, name_in
from everloop_schemas.envelope import Fields
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]
ROWS: list[Fields] = [{"price": i / 7, "demand": i % 3 if i % 2 else None} for i in range(50)]


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MlflowHarness]:
    """A registry with a champion and a candidate in canary, which MLflow's client takes for its servers."""
    async with mlflow_registry(MemoryBroker(), tmp_path) as made:
        await apply_file(made.http)
        await run_to_canary(made.broker, tmp_path)
        mlflow = imported_mlflow()
        before = mlflow.get_tracking_uri(), mlflow.get_registry_uri()
        mlflow.set_tracking_uri(made.url)
        mlflow.set_registry_uri(made.url)
        yield made
        mlflow.set_tracking_uri(before[0])
        mlflow.set_registry_uri(before[1])


def served(folder: Path, name: str = "a-0", offset: int = 200) -> OnlineModel:
    """The model of a version, as serving loads it."""
    model = store_model(name, offset, folder / "artifacts", "gate").data
    data = ArtifactStore((folder / "artifacts").as_uri()).get(name_in(model.uri))
    return verify_and_load(data, model.sha256)


async def test_the_champion_loads_by_its_alias_and_predicts_as_it_is_served(
    harness: MlflowHarness, tmp_path: Path
) -> None:
    mlflow, pandas = imported_mlflow(), import_module("pandas")

    loaded = await harness.ask(mlflow.pyfunc.load_model, "models:/market@champion")
    frame = loaded.predict(pandas.DataFrame(ROWS))

    expected = [served(tmp_path).predict(row) for row in ROWS]
    assert frame["prediction"].tolist() == [p.value for p in expected]
    assert frame["probability_true"].tolist() == [(p.probabilities or {})["true"] for p in expected]


async def test_a_version_is_downloaded_by_alias_and_by_number(harness: MlflowHarness) -> None:
    mlflow = imported_mlflow()
    number = (await harness.call("get_model_version_by_alias", "market", "challenger")).version

    by_alias = await harness.ask(mlflow.artifacts.download_artifacts, "models:/market@challenger")
    by_number = await harness.ask(mlflow.artifacts.download_artifacts, f"models:/market/{number}")
    info = await harness.ask(mlflow.models.get_model_info, "models:/market@champion")

    own = {"MLmodel", "conda.yaml", "model.pkl", "python_env.yaml", "requirements.txt"}
    assert own <= set(os.listdir(by_alias)) == set(os.listdir(by_number))
    assert "python_function" in info.flavors
    assert info.signature.inputs.input_names() == ["price", "demand"]
    assert info.metadata["everloop"]["version"] == "a-0@200"


async def test_an_artifact_that_is_not_kept_any_more_is_said_to_be(harness: MlflowHarness, tmp_path: Path) -> None:
    for path in (tmp_path / "artifacts" / "models" / "market").glob("a-0@200-*"):
        path.unlink()
    answer = await harness.ask(
        lambda: import_module("httpx").get(
            f"{harness.url}/api/2.0/mlflow-artifacts/artifacts/versions/market/1/model.pkl"
        )
    )

    assert answer.status_code == 404
    assert "a-0@200) is no longer kept" in answer.json()["message"]


async def test_an_artifact_that_was_changed_in_the_store_is_not_loaded(harness: MlflowHarness, tmp_path: Path) -> None:
    mlflow: Any = imported_mlflow()
    [path] = (tmp_path / "artifacts" / "models" / "market").glob("a-0@200-*")
    path.write_bytes(path.read_bytes()[:-1] + b"x")

    with pytest.raises(Exception, match=r"a-0@200 of market: sha256 is .*not loaded"):
        await harness.ask(mlflow.pyfunc.load_model, "models:/market@champion")


async def test_a_version_that_was_never_registered_has_no_files(harness: MlflowHarness) -> None:
    unknown = await harness.ask(
        lambda: import_module("httpx").get(
            f"{harness.url}/api/2.0/mlflow-artifacts/artifacts", params={"path": "versions/market/99"}
        )
    )

    assert unknown.status_code == 404
    assert unknown.json() == {
        "error_code": "RESOURCE_DOES_NOT_EXIST",
        "message": "loop market has no version 99",
    }
