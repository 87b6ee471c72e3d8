"""Models that somebody logged by MLflow's client become versions that challenge, or are refused with the way in."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.access import add_key, bearer
from tests.builders.events import challenge_updated, run_requested
from tests.registry.mlflow_api import ENVIRONMENT, MlflowHarness, imported_mlflow, mlflow_registry
from tests.registry.registry_harness import LOOP_FILE, apply_file, publish

from everloop_schemas.registry import Decided, VersionRegistered
from everloop_shared.access.key_file import GrantedRole
from everloop_shared.clock import system_clock
from everloop_shared.messaging.memory import MemoryBroker

pytestmark = [pytest.mark.frameworks, pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(240)]


@pytest.fixture
async def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MlflowHarness]:
    """A registry with a loop, which MLflow's client takes for its servers."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    async with mlflow_registry(MemoryBroker(), tmp_path / "data") as made:
        await apply_file(made.http)
        await publish(made.broker, run_requested("a-0"), challenge_updated(0, {"0": [0.0] * 10, "a-0": [1.0] * 10}))
        mlflow = imported_mlflow()
        mlflow.set_tracking_uri(made.url)
        mlflow.set_registry_uri(made.url)
        yield made


def network(columns: int = 2) -> Any:
    """An ONNX file of a wide layer, whose weights MLflow saves in a file of their own, and a sigmoid."""
    numpy, onnx = import_module("numpy"), import_module("onnx")
    helper, random = onnx.helper, numpy.random.default_rng(1)
    weights = {"w": random.normal(size=(columns, 400)), "v": random.normal(size=(400, 1))}
    tensors = [onnx.numpy_helper.from_array(w.astype("float32"), name) for name, w in weights.items()]
    one = onnx.numpy_helper.from_array(numpy.array([1.0], "float32"), "one")
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("MatMul", ["h", "v"], ["z"]),
        helper.make_node("Sigmoid", ["z"], ["p"]),
        helper.make_node("Sub", ["one", "p"], ["q"]),
        helper.make_node("Concat", ["q", "p"], ["probabilities"], axis=1),
    ]
    value = helper.make_tensor_value_info
    of = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes, "g", [value("x", of, [None, columns])], [value("probabilities", of, [None, 2])], [*tensors, one]
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)


def signature(*names: str) -> Any:
    """A signature that names the columns."""
    types = import_module("mlflow.types")
    columns = [types.ColSpec("double", name) for name in names]
    return import_module("mlflow.models").ModelSignature(inputs=types.Schema(columns))


async def logged(harness: MlflowHarness, folder: Path, name: str = "Net") -> Any:
    """A logged model with the files of a folder."""
    known = await harness.call("get_experiment_by_name", "lab")
    experiment = known.experiment_id if known else await harness.call("create_experiment", "lab")
    model = await harness.call("create_logged_model", experiment, name=name)
    await harness.call("log_model_artifacts", model.model_id, str(folder))
    return await harness.call("finalize_logged_model", model.model_id, "READY")


async def logged_network(harness: MlflowHarness, folder: Path, *names: str) -> Any:
    """A logged network, whose columns have these names."""
    mlflow = imported_mlflow()
    columns = names or ("demand", "price")
    await harness.ask(mlflow.onnx.save_model, network(len(columns)), str(folder), signature=signature(*columns))
    return await logged(harness, folder)


async def register(harness: MlflowHarness, source: str, loop: str = "market", **more: Any) -> Any:
    """What `create_model_version` answers."""
    return await harness.call("create_model_version", loop, source, **more)


async def test_a_logged_onnx_model_challenges_with_its_weights_and_columns(
    harness: MlflowHarness, tmp_path: Path
) -> None:
    model = await logged_network(harness, tmp_path / "net")
    assert len(list((tmp_path / "net").glob("*.data"))) > 0

    version = await register(harness, f"models:/{model.model_id}", tags={"team": "risk"}, description="a first try")
    again = await register(harness, f"models:/{model.model_id}")

    assert (version.version, version.status, version.tags["team"]) == ("1", "READY", "risk")
    assert (again.version, again.description) == ("1", "a first try")
    [registered] = [d for d in harness.broker.events(Decided.topic) if isinstance(d, VersionRegistered)]
    trained = registered.data.model
    assert (trained.reason, trained.manifest.format) == ("submitted", "onnx")
    assert (trained.line.partition("-")[0], trained.signature) == ("net", ("demand", "price"))
    assert trained.manifest.model.parameters == {"mlflow_model": model.model_id}
    champion = (await harness.http.get("/market")).json()["champion"]["version"]
    assert champion == "0"


async def test_what_was_logged_is_downloaded_as_a_model_that_predicts_the_same(
    harness: MlflowHarness, tmp_path: Path
) -> None:
    mlflow, pandas, numpy = imported_mlflow(), import_module("pandas"), import_module("numpy")
    model = await logged_network(harness, tmp_path / "net")
    await register(harness, f"models:/{model.model_id}")
    rows = pandas.DataFrame({"price": [0.5, -1.0, 3.0], "demand": [1, 2, 3]})

    loaded = await harness.ask(mlflow.pyfunc.load_model, "models:/market/1")
    bare = await harness.ask(mlflow.onnx.load_model, "models:/market/1")
    frame = loaded.predict(rows)

    session = import_module("onnxruntime").InferenceSession(bare.SerializeToString())
    [expected] = session.run(None, {"x": rows[["demand", "price"]].to_numpy("float32")})
    assert numpy.allclose(frame["probability_true"], expected[:, 1], rtol=0, atol=1e-6)
    assert frame["prediction"].tolist() == [bool(p > 0.5) for p in expected[:, 1]]


async def test_a_model_that_would_be_unpickled_is_refused_with_the_way_in(
    harness: MlflowHarness, tmp_path: Path
) -> None:
    mlflow = imported_mlflow()
    linear = import_module("sklearn.linear_model").LogisticRegression().fit([[0.0, 1.0], [1.0, 0.0]], [0, 1])

    class Anything(mlflow.pyfunc.PythonModel):  # type: ignore[misc, name-defined]
        def predict(self, context: Any, model_input: Any, params: Any = None) -> Any:
            return [True] * len(model_input)

    pickled = {"serialization_format": "cloudpickle"}
    await harness.ask(mlflow.sklearn.save_model, linear, str(tmp_path / "sk"), **pickled)
    await harness.ask(mlflow.pyfunc.save_model, str(tmp_path / "any"), python_model=Anything())

    for folder in ("sk", "any"):
        model = await logged(harness, tmp_path / folder)
        code, message = await harness.refused("create_model_version", "market", f"models:/{model.model_id}")
        assert code == "INVALID_PARAMETER_VALUE"
        assert "unpickled" in message
        assert "mlflow.onnx.log_model" in message


async def test_what_does_not_fit_the_loop_is_refused_and_named(harness: MlflowHarness, tmp_path: Path) -> None:
    stranger = await logged_network(harness, tmp_path / "stranger", "height", "price")
    fits = await logged_network(harness, tmp_path / "fits")

    _, inputs = await harness.refused("create_model_version", "market", f"models:/{stranger.model_id}")
    unknown, loop = await harness.refused("create_model_version", "nowhere", f"models:/{fits.model_id}")
    _, nobody = await harness.refused("create_model_version", "market", "models:/m-nobody")
    _, empty = await harness.refused("create_model_version", "market", "models:/market/1")

    assert "height" in inputs
    assert (unknown, "nowhere" in loop, "apply" in loop) == ("RESOURCE_DOES_NOT_EXIST", True, True)
    assert "m-nobody" in nobody
    assert "registered model already" in empty


@pytest.mark.parametrize(
    "source", ["http://127.0.0.1:9/model", "file:///etc", "/etc", "mlflow-artifacts:/versions/market/1"]
)
async def test_a_source_outside_of_the_registry_is_never_followed(harness: MlflowHarness, source: str) -> None:
    asked = {"name": "market", "source": source}
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{harness.url}/api/2.0/mlflow/model-versions/create", json=asked)

    assert answer.status_code == 400
    assert "registry" in answer.json()["message"] or "logged" in answer.json()["message"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"location": "../../secret"}, "which is not there"),
        ({"location": "/etc/passwd"}, "which is not there"),
        ({"offset": "-1"}, "beyond their file"),
        ({"length": "99999999"}, "beyond their file"),
        ({"offset": "x"}, "is no number"),
    ],
)
async def test_weights_are_read_only_from_the_files_of_the_model(
    harness: MlflowHarness, tmp_path: Path, change: dict[str, str], reason: str
) -> None:
    onnx, folder = import_module("onnx"), tmp_path / "net"
    await harness.ask(imported_mlflow().onnx.save_model, network(), str(folder), signature=signature("demand", "price"))
    model = onnx.load(str(folder / "model.onnx"), load_external_data=False)
    for each in next(t for t in model.graph.initializer if t.external_data).external_data:
        each.value = change.get(each.key, each.value)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    source = await logged(harness, folder)

    _, message = await harness.refused("create_model_version", "market", f"models:/{source.model_id}")

    assert reason in message


async def test_a_model_without_its_file_or_its_description_is_refused(harness: MlflowHarness, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    nothing = await logged(harness, tmp_path / "empty")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "MLmodel").write_text(json.dumps({"flavors": {"onnx": {"data": "model.onnx"}}}))
    bare = await logged(harness, tmp_path / "bare")

    _, no_mlmodel = await harness.refused("create_model_version", "market", f"models:/{nothing.model_id}")
    _, no_file = await harness.refused("create_model_version", "market", f"models:/{bare.model_id}")

    assert "there is no MLmodel" in no_mlmodel
    assert "'model.onnx', which was not logged" in no_file


async def test_a_key_for_one_loop_logs_and_registers_there_and_is_refused_everywhere_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow, file, now = imported_mlflow(), tmp_path / "keys.json", system_clock()
    columns, folder = signature("demand", "price"), str(tmp_path / "net")
    await asyncio.to_thread(mlflow.onnx.save_model, network(), folder, signature=columns)
    owner = add_key(file, "owner", "admin", now=now)
    mine = add_key(file, "ada", GrantedRole(role="engineer", loops=("market",)), now=now)
    for name, value in {**ENVIRONMENT, "MLFLOW_TRACKING_TOKEN": mine}.items():
        monkeypatch.setenv(name, value)
    async with mlflow_registry(MemoryBroker(), tmp_path / "data", auth="on", auth_keys=file) as harness:
        harness.http.headers.update(bearer(owner))
        for loop in ("market", "fraud"):
            applied = await apply_file(harness.http, LOOP_FILE.replace("market", loop), loop)
            assert applied.status_code == 201
        experiment = (await harness.call("get_experiment_by_name", "market")).experiment_id
        run = (await harness.call("create_run", experiment)).info.run_id
        await harness.call("log_metric", run, "loss", 0.5)
        await harness.call("log_artifact", run, str(tmp_path / "net" / "MLmodel"))
        model = await harness.call("create_logged_model", experiment, name="Net", source_run_id=run)
        await harness.call("log_model_artifacts", model.model_id, str(tmp_path / "net"))
        await harness.call("finalize_logged_model", model.model_id, "READY")
        elsewhere = await harness.refused("create_model_version", "fraud", f"models:/{model.model_id}")
        version = await register(harness, f"models:/{model.model_id}", run_id=run)
        found = [one.name for one in await harness.call("search_registered_models")]
        seen = [one.name for one in await harness.call("search_experiments")]
        other = await harness.refused("get_experiment_by_name", "fraud")
        none = await harness.refused("create_run", "0")

    assert (found, seen) == (["market"], ["market"])
    assert [code for code, _ in (elsewhere, other, none)] == ["PERMISSION_DENIED"] * 3
    assert "ada may not models.submit for loop fraud" in elsewhere[1]
    assert (version.name, version.version) == ("market", "1")
