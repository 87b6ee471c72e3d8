"""Model formats: found by name, imported when needed, and able to load what earlier releases have stored."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.builders.loops import loop_spec

from everloop_models import (
    ArtifactCorrupt,
    FormatUnavailable,
    ModelSpecInvalid,
    OnlineModel,
    build,
    library_versions,
    save,
    verify_and_load,
)
from everloop_models import formats as formats_module
from everloop_models.formats import FORMATS, ModelFormat, OnlineFormat, format_of, model_format, online_format
from everloop_models.formats.onnx import format as onnx_format
from everloop_models.formats.river import format as river_format
from everloop_models.trial import check_models
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec

OLD_ARTIFACTS = json.loads(Path(__file__).with_name("old_artifacts.json").read_text())
"""Saved by the release before formats, with its class names, and what it predicted."""


def spec() -> LoopSpec:
    return loop_spec(schema={"a": {"type": "number"}})


def test_the_module_of_a_format_has_the_functions_of_the_protocol() -> None:
    online: OnlineFormat = river_format
    served: ModelFormat = onnx_format

    assert online_format("river") is online
    assert model_format("onnx") is served
    assert list(FORMATS) == ["river", "onnx"]


def test_a_model_knows_its_format_and_goes_through_it_to_bytes_and_back() -> None:
    model = build(spec().models[0], spec())
    model.learn({"a": 1.0}, True)
    artifact = save(model)

    loaded = verify_and_load(artifact.data, artifact.sha256, model.format)

    assert isinstance(loaded, OnlineModel)
    assert (loaded.format, loaded.predict({"a": 1.0})) == ("river", model.predict({"a": 1.0}))


def test_the_format_of_a_model_follows_from_its_spec() -> None:
    assert format_of(ModelSpec(preset="logistic")) == "river"
    assert format_of(ModelSpec(estimator="river.linear_model.LogisticRegression")) == "river"
    assert format_of(ModelSpec(estimator="sklearn.linear_model.LogisticRegression")) == "onnx"
    assert format_of(ModelSpec(trainer="pytorch")) == "onnx"


def test_a_manifest_records_the_libraries_of_the_format() -> None:
    assert set(library_versions("river")) == {"python", "everloop", "river", "numpy", "scipy"}
    assert set(library_versions("onnx")) == {"python", "everloop", "onnx", "onnxruntime", "numpy"}


def test_a_format_that_this_release_does_not_have_is_named_in_the_error() -> None:
    with pytest.raises(FormatUnavailable, match="no model format 'tensorrt' in this release; it has river, onnx"):
        model_format("tensorrt")


def test_a_format_whose_models_do_not_learn_online_builds_none() -> None:
    with pytest.raises(FormatUnavailable, match="models of format onnx do not learn online; those of river do"):
        online_format("onnx")


def test_a_format_whose_library_is_not_installed_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(formats_module.FORMATS, "absent", "everloop_models.formats.absent")

    with pytest.raises(FormatUnavailable, match="format absent need a library that is not installed here"):
        model_format("absent")


def test_a_spec_is_refused_by_field_where_the_library_of_its_format_is_not_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(formats_module.FORMATS, "river", "everloop_models.formats.absent")

    with pytest.raises(ModelSpecInvalid, match=r"models\.0: models of format river need a library"):
        check_models(spec())


@pytest.mark.parametrize("name", OLD_ARTIFACTS)
def test_an_artifact_of_an_earlier_release_loads_and_predicts_what_it_did(name: str) -> None:
    old = OLD_ARTIFACTS[name]

    model = verify_and_load(base64.b64decode(old["artifact"]), old["sha256"])

    assert model.predict({"a": 0.7, "s": "x"}) == (old["value"], old["probabilities"])
    assert model.signature == ("a", "s")
    model.learn({"a": 0.7, "s": "x"}, old["value"])


def test_a_class_that_has_moved_is_allowed_what_it_was_allowed_and_nothing_more() -> None:
    asks_for_the_old_class = b"\x80\x05\x8c\x16everloop_models.model\x8c\x05Model\x93\x8c\x01x\x85R.".replace(
        b"\x8c\x16", b"\x8c\x15"
    )

    with pytest.raises(ArtifactCorrupt, match=r"RiverModel \(call 1\)"):
        river_format.check(asks_for_the_old_class)


@pytest.mark.process
@pytest.mark.parametrize(
    ("service", "absent"),
    [
        ("serving", ["river", "onnx", "onnxruntime", "sklearn"]),
        ("registry", ["river", "onnx", "onnxruntime", "sklearn"]),
        ("monitoring", ["river", "numpy", "fsspec"]),
        ("ingest", ["river", "numpy", "fsspec"]),
        ("training", ["river", "onnx", "onnxruntime", "sklearn"]),
    ],
)
def test_a_service_is_built_without_the_libraries_of_models(service: str, absent: list[str], tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent}))  # importing one raises ImportError
from everloop_{service}.app import build
from everloop_{service}.settings import {service.title()}Settings
from everloop_shared.messaging.kafka.engine import kafka_factory
settings = {service.title()}Settings.load({service!r})
build(settings, kafka_factory(settings))
assert not any(name.startswith("river.") for name in sys.modules)
"""
    environment = {**os.environ, "EVERLOOP_DATA": str(tmp_path)}

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)

    assert done.returncode == 0, done.stderr
