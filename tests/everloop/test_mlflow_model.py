"""A version of the registry as a model of MLflow's: what is predicted, and what is not loaded."""

from __future__ import annotations

import pickle
import sys
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import MODEL, model_trained
from tests.builders.loops import loop_spec

from everloop.mlflow_model import EverloopModel, ModelNotLoaded, _load_pyfunc
from everloop_models import build, save
from everloop_models.model import OnlineModel
from everloop_registry.domain.mlflow_model import NumberedVersion, describe_version
from everloop_schemas.envelope import Fields

MLFLOW = pytest.mark.filterwarnings("ignore")  # what the import of mlflow warns of
SPEC = loop_spec(
    schema={
        "price": {"type": "number"},
        "demand": {"type": "integer", "missing": None},
        "open": {"type": "boolean"},
        "kind": {"type": "string", "missing": None},
    },
    features=[{"fields": "all"}, {"name": "seen", "count": "price", "over": "5 events"}],
)
ROWS: list[Fields] = [
    {
        "price": i / 7 if i % 4 else 3,
        "demand": None if i % 3 else i,
        "open": i % 2 == 0,
        "kind": "a" if i % 4 else None,
        "seen": min(i, 5),
    }
    for i in range(40)
]


def learned() -> OnlineModel:
    """A model that has learned the rows."""
    model = build(MODEL, SPEC)
    for i, row in enumerate(ROWS):
        model.learn(row, i % 5 > 2)
    return model


def version_in(folder: Path, data: bytes, **changes: Any) -> Path:
    """The files of a version in a folder; the path of its artifact."""
    described = {"sha256": sha256(data).hexdigest(), "size": len(data), "signature": sorted(ROWS[0]), **changes}
    trained = model_trained("a-0", 200, "gate", **described)
    for name, text in describe_version(NumberedVersion(1, trained.data, SPEC, trained.time, "run-1")).items():
        (folder / name).write_bytes(text)
    artifact = folder / "model.pkl"
    artifact.write_bytes(data)
    return artifact


@MLFLOW
@pytest.mark.frameworks
@pytest.mark.timeout(180)
def test_mlflow_loads_a_version_and_predicts_as_its_model_to_the_last_bit(tmp_path: Path) -> None:
    import mlflow

    pandas = import_module("pandas")
    model = learned()
    version_in(tmp_path, save(model).data)

    loaded = mlflow.pyfunc.load_model(str(tmp_path))
    frame = loaded.predict(pandas.DataFrame(ROWS))
    one = loaded.predict(ROWS[7])

    expected = [model.predict(row) for row in ROWS]
    assert frame["prediction"].tolist() == [p.value for p in expected]
    assert frame["probability_true"].tolist() == [(p.probabilities or {})["true"] for p in expected]
    assert one["probability_false"].tolist() == [(expected[7].probabilities or {})["false"]]


@MLFLOW
@pytest.mark.frameworks
@pytest.mark.timeout(180)
def test_the_signature_names_features_and_answers(tmp_path: Path) -> None:
    import mlflow

    version_in(tmp_path, save(learned()).data)

    info = mlflow.models.get_model_info(str(tmp_path))

    assert list(info.flavors) == ["python_function"]
    assert info.signature.inputs.input_names() == ["price", "demand", "open", "kind", "seen"]
    assert info.signature.inputs.required_input_names() == ["price", "open"]
    assert info.signature.outputs.input_names() == ["prediction", "probability_false", "probability_true"]


def test_a_list_of_vectors_is_predicted_too(tmp_path: Path) -> None:
    model = learned()

    loaded = _load_pyfunc(str(version_in(tmp_path, save(model).data)))

    assert isinstance(loaded, EverloopModel)
    assert loaded.description.features == {
        "price": "number",
        "demand": "integer",
        "open": "boolean",
        "kind": "string",
        "seen": "number",
    }


def test_an_artifact_of_other_bytes_is_not_loaded(tmp_path: Path) -> None:
    artifact = version_in(tmp_path, save(learned()).data)
    artifact.write_bytes(_trap(tmp_path))

    with pytest.raises(ModelNotLoaded, match=r"a-0@200 of market: .*not loaded"):
        _load_pyfunc(str(artifact))

    assert not (tmp_path / "sprung").exists()


def test_a_pickle_that_would_run_something_is_not_loaded_whoever_describes_it(tmp_path: Path) -> None:
    artifact = version_in(tmp_path, _trap(tmp_path))

    with pytest.raises(ModelNotLoaded, match=r"pathlib\.Path\.touch"):
        _load_pyfunc(str(artifact))

    assert not (tmp_path / "sprung").exists()


def test_where_a_library_is_missing_the_error_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = version_in(tmp_path, save(learned()).data)
    monkeypatch.setitem(sys.modules, "everloop_models.formats.river.format", None)

    with pytest.raises(ModelNotLoaded, match=r"format river need a library .*pip install 'everloop\[local\]'"):
        _load_pyfunc(str(artifact))


@pytest.mark.parametrize("text", ["", "flavors: {}", "metadata: {everloop: {loop: a}}", "metadata: [1", "&a [*a"])
def test_a_file_that_describes_no_version_is_refused(tmp_path: Path, text: str) -> None:
    artifact = version_in(tmp_path, save(learned()).data)
    (tmp_path / "MLmodel").write_text(text)

    with pytest.raises(ModelNotLoaded, match="does not describe a version"):
        _load_pyfunc(str(artifact))


class _Trap:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self._path,))


def _trap(folder: Path) -> bytes:
    return pickle.dumps(_Trap(folder / "sprung"), protocol=5)
