"""Files and logged models through MLflow's own client: written, listed, read, bounded and kept apart."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sql
from tests.databases import Databases
from tests.registry.mlflow_api import MlflowHarness, mlflow_registry

from everloop_registry.adapters.search import Searched
from everloop_registry.domain.filters import Condition, Field
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(180)]
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"


@pytest.fixture
async def harness(tmp_path: Path) -> AsyncIterator[MlflowHarness]:
    """A registry with an experiment and small limits."""
    limits = {"max_run_files": 4, "max_run_bytes": 5_000_000, "max_artifact_bytes": 3_000_000}
    async with mlflow_registry(MemoryBroker(), tmp_path / "data", **limits) as made:
        yield made


async def model_in(harness: MlflowHarness, name: str = "forest", **more: Any) -> Any:
    """A new logged model."""
    known = await harness.call("get_experiment_by_name", "lab")
    experiment = known.experiment_id if known else await harness.call("create_experiment", "lab")
    return await harness.call("create_logged_model", experiment, name=name, **more)


async def log_files(harness: MlflowHarness, model: Any, folder: Path, **files: bytes) -> None:
    """Log files of a logged model, `__` in a name standing for a dot."""
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name.replace("__", ".")).write_bytes(data)
    await harness.call("log_model_artifacts", model.model_id, str(folder))


async def test_a_logged_model_is_created_finalized_tagged_found_and_deleted(harness: MlflowHarness) -> None:
    forest = await model_in(harness, tags={"team": "risk"}, params={"trees": "30"}, model_type="agent")
    await model_in(harness, "other")
    await harness.call("finalize_logged_model", forest.model_id, "READY")
    await harness.call("set_logged_model_tags", forest.model_id, {"stage": "b", "gone": "soon"})
    await harness.call("delete_logged_model_tag", forest.model_id, "gone")

    found = await harness.call("get_logged_model", forest.model_id)
    assert (found.name, found.model_type, str(found.status), found.params) == (
        "forest",
        "agent",
        "READY",
        {"trees": "30"},
    )
    assert found.tags == {"team": "risk", "stage": "b"}

    experiments = [found.experiment_id]
    by_name = await harness.call("search_logged_models", experiments, "name = 'forest'")
    by_tag = await harness.call("search_logged_models", experiments, "tags.team = 'risk' AND params.trees = '30'")
    none = await harness.call("search_logged_models", experiments, "name LIKE 'for%' AND status = 'PENDING'")
    ordered = await harness.call(
        "search_logged_models", experiments, order_by=[{"field_name": "name", "ascending": False}], max_results=1
    )
    following = await harness.call(
        "search_logged_models",
        experiments,
        order_by=[{"field_name": "name", "ascending": False}],
        max_results=1,
        page_token=ordered.token,
    )
    assert [m.name for m in by_name] == [m.name for m in by_tag] == ["forest"]
    assert (list(none), [m.name for m in ordered], [m.name for m in following]) == ([], ["other"], ["forest"])

    await harness.call("delete_logged_model", forest.model_id)
    code, _ = await harness.refused("get_logged_model", forest.model_id)
    assert code == "RESOURCE_DOES_NOT_EXIST"


async def test_logged_models_are_searched_and_ordered_by_the_last_value_of_a_metric(
    databases: Databases, harness: MlflowHarness
) -> None:
    models = {name: await model_in(harness, name) for name in ("a", "b", "c", "d")}
    lab = models["a"].experiment_id
    run = (await harness.call("create_run", lab)).info.run_id
    logged = [("a", 0.9, 0), ("a", 0.2, 1), ("b", 0.5, 0), ("c", 0.8, 0), ("c", float("nan"), 1)]
    for name, value, step in logged:
        of = {"step": step, "model_id": models[name].model_id, "timestamp": 1_000}
        await harness.call("log_metric", run, "accuracy", value, **of)

    above = await harness.call("search_logged_models", [lab], "metrics.accuracy > 0.4")
    ready = await harness.call("search_logged_models", [lab], "status IN ('READY', 'PENDING') AND name != 'a'")
    order = [{"field_name": "metrics.accuracy", "ascending": False}, {"field_name": "name"}]
    ordered = await harness.call("search_logged_models", [lab], order_by=order)

    assert [m.name for m in above] == ["b"]
    assert {m.name for m in ready} == {"b", "c", "d"}
    assert [m.name for m in ordered] == ["b", "a", "c", "d"]
    assert {m.name: [v.value for v in m.metrics] for m in ordered[:2]} == {"b": [0.5], "a": [0.2]}


async def test_files_are_logged_listed_and_downloaded_as_they_were(harness: MlflowHarness, tmp_path: Path) -> None:
    large = os.urandom(2_500_000)
    model = await model_in(harness)
    (tmp_path / "up" / "deep").mkdir(parents=True)
    (tmp_path / "up" / "deep" / "b ä.bin").write_bytes(large)

    await log_files(harness, model, tmp_path / "up", MLmodel=b"{}")

    listed = await harness.call("list_logged_model_artifacts", model.model_id)
    below = await harness.call("list_logged_model_artifacts", model.model_id, "deep")
    assert [(f.path, f.is_dir, f.file_size) for f in listed] == [("MLmodel", False, 2), ("deep", True, None)]
    assert [f.path for f in below] == ["deep/b ä.bin"]
    import mlflow

    to = tmp_path / "down"
    uri = f"{harness.url}{ARTIFACTS}/logged-models/{model.model_id}"
    path = Path(await harness.ask(mlflow.artifacts.download_artifacts, uri, dst_path=str(to)))
    assert next(path.rglob("b ä.bin")).read_bytes() == large
    stored = tmp_path / "data" / "artifacts" / "logged-models" / model.model_id
    assert (stored / "deep" / "b ä.bin").read_bytes() == large
    assert not list((tmp_path / "data" / "artifacts" / "runs" / ".incoming").iterdir())


async def test_what_would_pass_a_limit_is_refused_and_names_the_setting(harness: MlflowHarness) -> None:
    model = await model_in(harness)
    at = f"{harness.url}{ARTIFACTS}/logged-models/{model.model_id}"
    async with httpx.AsyncClient() as client:
        large = await client.put(f"{at}/large", content=b"x" * 3_000_001)
        first = [await client.put(f"{at}/{n}", content=b"x" * 1_500_000) for n in range(3)]
        much = await client.put(f"{at}/3", content=b"x" * 1_500_000)
        small = [await client.put(f"{at}/{n}", content=b"x") for n in (3, 4)]

    assert (large.status_code, [a.status_code for a in first]) == (413, [200] * 3)
    assert "EVERLOOP_REGISTRY_MAX_RUN_BYTES" in much.json()["message"]
    assert [a.status_code for a in small] == [200, 400]
    assert "EVERLOOP_REGISTRY_MAX_RUN_FILES" in small[1].json()["message"]


async def test_paths_lead_nowhere_else(harness: MlflowHarness, tmp_path: Path) -> None:
    model = await model_in(harness)
    own = f"logged-models/{model.model_id}"
    secret = tmp_path / "secret"
    secret.write_text("secret")
    async with httpx.AsyncClient() as client:
        at = harness.url + ARTIFACTS
        assert (await client.put(f"{at}/{own}/a/b", content=b"x")).status_code == 200
        stored = tmp_path / "data" / "artifacts" / own
        (stored / "link").symlink_to(secret)
        (stored / "folder").symlink_to(tmp_path)

        answers = {
            "traversal": await client.get(f"{at}/{own}/%2e%2e/%2e%2e/%2e%2e/secret"),
            "link": await client.get(f"{at}/{own}/link"),
            "below a link": await client.get(f"{at}/{own}/folder/secret"),
            "written below a link": await client.put(f"{at}/{own}/folder/secret", content=b"changed"),
            "deleted below a link": await client.delete(f"{at}/{own}/folder/secret"),
            "another's folder": await client.get(f"{at}/models/market"),
            "nobody's": await client.put(f"{at}/logged-models/m-nobody/a", content=b"x"),
            "the whole folder": await client.delete(f"{at}/{own}"),
            "a folder as a file": await client.put(f"{at}/{own}/a", content=b"x"),
            "below a file": await client.put(f"{at}/{own}/a/b/c", content=b"x"),
            "a version": await client.put(f"{at}/versions/market/1/MLmodel", content=b"x"),
        }
        listed = (await client.get(at, params={"path": own})).json()["files"]

    assert {name: a.status_code for name, a in answers.items() if a.status_code not in (400, 404)} == {}
    assert all(a.json()["message"] for a in answers.values())
    assert secret.read_text() == "secret"
    assert [f["path"] for f in listed] == ["a"]


async def test_a_file_is_an_attachment_of_no_type_that_a_browser_would_show(harness: MlflowHarness) -> None:
    model = await model_in(harness)
    at = f"{harness.url}{ARTIFACTS}/logged-models/{model.model_id}/page.html"
    async with httpx.AsyncClient() as client:
        await client.put(at, content=b"<script>", headers={"content-type": "text/html"})
        answer = await client.get(at)
        gone = await client.delete(at), await client.get(at)
        multipart = await client.post(f"{harness.url}/api/2.0/mlflow-artifacts/mpu/create/x", json={})

    assert (answer.content, answer.headers["content-type"]) == (b"<script>", "application/octet-stream")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert [a.status_code for a in gone] == [200, 404]
    assert multipart.status_code == 404
    assert multipart.json()["message"].startswith("Multipart upload is not supported")


async def test_an_upload_that_ends_early_leaves_nothing(harness: MlflowHarness, tmp_path: Path) -> None:
    model = await model_in(harness)
    _, writer = await asyncio.open_connection("127.0.0.1", int(harness.url.rpartition(":")[2]))
    head = f"PUT {ARTIFACTS}/logged-models/{model.model_id}/half HTTP/1.1\r\nhost: 127.0.0.1\r\n"
    writer.write(f"{head}content-length: 1000\r\n\r\nhalf".encode())
    await writer.drain()
    writer.close()
    await writer.wait_closed()

    listed = await harness.call("list_logged_model_artifacts", model.model_id)

    assert listed == []
    assert not list((tmp_path / "data").rglob("half"))


@pytest.mark.parametrize(
    ("value", "pattern", "like"),
    [
        ("forest", "for%", True),
        ("forest", "%est", True),
        ("forest", "%o%e%", True),
        ("forest", "f_rest", True),
        ("forest", "forest%forest", False),
        ("forest", "%x%", False),
        ("f.rest", "f.rest", True),
        ("forest", "f.rest", False),
        ("", "%", True),
        ("ab", "ab%b", False),
        ("a" * 5_000, "%a" * 2_000 + "b", False),
    ],
)
def test_a_text_is_like_a_pattern_of_sql(value: str, pattern: str, like: bool) -> None:
    named = Searched({"name": sql.literal(value)}, {}, "sqlite")
    [found] = named.matches([Condition(Field("attribute", "name"), "LIKE", pattern)])

    with sql.create_engine("sqlite://").connect() as connection:
        is_like = connection.scalar(sql.select(found))

    assert is_like is like
