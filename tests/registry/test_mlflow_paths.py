"""Paths of artifacts, sources of versions and aliases: what is read, and what is refused."""

from __future__ import annotations

import json

import pytest
from tests.builders.events import event

from everloop_registry.domain.aliases import Aliases
from everloop_registry.domain.artifact_paths import ArtifactPath, in_versions, read_path, read_uri
from everloop_registry.domain.mlflow_source import (
    LoggedModelSource,
    OnnxSource,
    RunSource,
    read_mlmodel,
    read_source,
    trainer_name,
)
from everloop_registry.errors import ArtifactPathRefused, LoggedModelRefused
from everloop_schemas import registry as r


def test_a_path_leads_to_a_run_a_logged_model_or_a_version() -> None:
    run, model, version = map(
        read_path, ("runs/0a/a/b.txt", "logged-models/m-1/MLmodel", "/versions/churn/12/model.pkl")
    )

    assert run == ArtifactPath("runs", "0a", ("a", "b.txt"))
    assert (run.name, model.name) == ("runs/0a/a/b.txt", "logged-models/m-1/MLmodel")
    assert version == ArtifactPath("versions", "churn", ("model.pkl",), 12)
    assert in_versions(read_path("runs/0a/versions/3/MLmodel")) == ArtifactPath("versions", "", ("MLmodel",), 3)
    assert in_versions(run) is None
    assert read_path("versions/churn/a-0@12/MLmodel") == ArtifactPath("versions", "churn", ("MLmodel",), 0, "a-0@12")


@pytest.mark.parametrize(
    "path",
    [
        "",
        "runs",
        "models/churn/a-0@1-0123456789abcdef.pkl",
        "runs/..",
        "runs/0a/../../models/x",
        "runs/0a/./b",
        "runs/0a//b",
        "runs/0a/a\\..\\b",
        "runs/0a/a\x00b",
        "runs/0a/a\nb",
        "runs/.incoming/..",
        f"runs/0a/{'x' * 201}",
        f"runs/0a/{'/'.join('x' * 30)}",
        f"runs/0a/{'/'.join(['x' * 100] * 11)}",
        "versions/churn/0",
        "versions/churn/-1/MLmodel",
        "versions/churn/99999999999/MLmodel",
        "versions/Churn/1/MLmodel",
        "versions/churn",
    ],
)
def test_a_path_that_leads_anywhere_else_is_refused(path: str) -> None:
    with pytest.raises(ArtifactPathRefused):
        read_path(path)


@pytest.mark.parametrize(
    "uri",
    [
        "http://169.254.169.254/latest/meta-data",
        "file:///etc/passwd",
        "/etc/passwd",
        "s3://elsewhere/model",
        "mlflow-artifacts://other:5000/runs/0a/model",
        "mlflow-artifacts:/runs/0a/../1b/model",
        "dbfs:/databricks/model",
    ],
)
def test_a_source_outside_of_the_registry_is_refused(uri: str) -> None:
    with pytest.raises(ArtifactPathRefused):
        read_uri(uri)


def test_a_source_is_a_logged_model_a_path_of_a_run_or_a_uri() -> None:
    assert read_source("models:/m-0123abc") == LoggedModelSource("m-0123abc")
    assert read_source("runs:/0a1b/deep/model") == RunSource("0a1b", "deep/model")
    assert read_source("mlflow-artifacts:/runs/0a/model") is None
    with pytest.raises(LoggedModelRefused, match="a version of a registered model already"):
        read_source("models:/churn/3")


def mlmodel(flavors: object, inputs: object = None) -> bytes:
    """An MLmodel file."""
    signature = {"signature": {"inputs": json.dumps(inputs)}} if inputs is not None else {}
    return json.dumps({"flavors": flavors, **signature}).encode()


def test_an_onnx_flavour_is_read_with_the_names_of_its_columns() -> None:
    columns = [{"type": "double", "name": "x"}, {"type": "double", "name": "y"}]
    tensors = [{"type": "tensor", "tensor-spec": {"dtype": "float32", "shape": [-1, 2]}}]

    named = read_mlmodel(mlmodel({"onnx": {"data": "model.onnx"}, "python_function": {}}, columns))
    tensor = read_mlmodel(mlmodel({"onnx": {"data": "model.onnx"}}, tensors))
    unsigned = read_mlmodel(mlmodel({"onnx": {"data": "deep/model.onnx"}}))

    assert named == OnnxSource("model.onnx", ("x", "y"))
    assert tensor == OnnxSource("model.onnx", None)
    assert unsigned == OnnxSource("deep/model.onnx", None)


@pytest.mark.parametrize(
    ("flavors", "reason"),
    [
        ({"sklearn": {}, "python_function": {}}, "flavour sklearn.*mlflow.onnx.log_model"),
        ({"python_function": {"loader_module": "mlflow.pyfunc.model"}}, "a Python model.*ONNX"),
        ({"xgboost": {}, "python_function": {}}, "xgboost.*unpickled"),
        ({"onnx": {"data": "../model.onnx"}}, "no path below it"),
        ({"onnx": {"data": "/etc/passwd"}}, "no path below it"),
        ({"onnx": {"data": 7}}, "no path below it"),
        ({"onnx": {"data": "model.onnx", "code": "code"}}, "Python code of its own"),
        ([], "ONNX"),
        (7, "cannot be read"),
    ],
)
def test_another_flavour_is_refused_with_the_reason_and_the_way(flavors: object, reason: str) -> None:
    with pytest.raises(LoggedModelRefused, match=reason):
        read_mlmodel(mlmodel(flavors))


def test_a_file_that_is_no_yaml_or_a_signature_without_names_is_refused() -> None:
    with pytest.raises(LoggedModelRefused, match="cannot be read"):
        read_mlmodel(b"\xff\x00")
    with pytest.raises(LoggedModelRefused, match="does not name its inputs"):
        read_mlmodel(mlmodel({"onnx": {"data": "model.onnx"}}, [{"type": "double"}]))


@pytest.mark.parametrize(
    ("name", "line"), [("model", "model"), ("My Forest (2)", "my-forest-2"), ("2024", "model-2024"), ("é", "model")]
)
def test_the_line_is_named_after_what_was_logged(name: str, line: str) -> None:
    assert trainer_name(name) == line


def decision(kind: type[r.Decided], **data: object) -> r.Decided:
    """A decision about the market loop."""
    return event(kind, "d", data, sequence=1, prevhash="0")


def test_aliases_follow_the_decisions() -> None:
    promoted = Aliases().after(decision(r.ModelPromoted, version="a-0@1", previous="0", reason="better"))
    step = {"share": 0.0, "outcomes": 1, "reason": "won"}
    shadow = promoted.after(decision(r.RolloutChanged, stage="shadow", candidate="b-0@2", **step))
    refreshed = shadow.after(decision(r.ModelRefreshed, version="b-0@3", previous="b-0@2", slot="candidate"))
    champion = refreshed.after(decision(r.ModelRefreshed, version="a-0@4", previous="a-0@1", slot="champion"))

    assert promoted.by_name() == {"champion": "a-0@1", "challenger": None, "candidate": None}
    assert (shadow, refreshed) == (Aliases("a-0@1", "b-0@2"), Aliases("a-0@1", "b-0@3"))
    assert champion == Aliases("a-0@4", "b-0@3")
    assert champion.after(decision(r.RolloutChanged, stage="idle", **step)) == Aliases("a-0@4", None)
    assert champion.after(decision(r.LoopDeleted, reason="done")) == Aliases()


def test_aliases_follow_rollbacks_of_persons_and_of_the_guardrail() -> None:
    both = Aliases("a-0@4", "b-0@3")

    def rolled_back(version: str, back: str, by: str) -> Aliases:
        of = {"version": version, "rolled_back": back, "by": by, "reason": "worse", "pinned": by == "person"}
        return both.after(decision(r.ModelRolledBack, **of))

    assert rolled_back("a-0@4", "b-0@3", "guardrail") == Aliases("a-0@4", None)
    assert rolled_back("a-0@1", "a-0@4", "guardrail") == Aliases("a-0@1", "b-0@3")
    assert rolled_back("c-0@1", "a-0@4", "guardrail") == Aliases("c-0@1", None)
    assert rolled_back("0", "a-0@4", "person") == Aliases(None, None)
