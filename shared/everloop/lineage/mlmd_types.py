"""The types of ML Metadata in which lineage is written, and the properties of their nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import isclose
from types import MappingProxyType
from typing import Any

from ml_metadata.proto import metadata_store_pb2 as proto  # type: ignore[import-not-found]

from everloop.lineage.graph import DataSet, Run, Version

RUN, DATA_SET, VERSION, LOOP = "everloop.Run", "everloop.DataSet", "everloop.Version", "everloop.Loop"
PIPELINE, RUN_CONTEXT, NODE = "pipeline", "pipeline_run", "node"
"""The contexts of TFX, under its names: a loop is a pipeline, a run a pipeline run, a line a node."""
NOTHING: Mapping[str, Any] = MappingProxyType({})
METRIC = "metric_"
"""Before the name of a metric, which is a custom property; the property `metrics` has all of them as JSON."""
DECIMALS = 1e-6
"""The store keeps so much of a number (it writes six decimals); a smaller difference is none."""
_KINDS = {str: proto.STRING, int: proto.INT, float: proto.DOUBLE}
_VALUES = {proto.STRING: "string_value", proto.INT: "int_value", proto.DOUBLE: "double_value"}
PROPERTIES: dict[str, dict[str, type]] = {
    RUN: {
        "run": str,
        "line": str,
        "state": str,
        "model": str,
        "trigger": str,
        "reason": str,
        "trainer": str,
        "requested": str,
        "finished": str,
        "failure": str,
        "start_offset": int,
        "outcomes": int,
        "seconds": float,
        "metrics": str,
    },
    DATA_SET: {"name": str, "loop": str, "start": int, "end": int, "revision": int, "digest": str, "rows": int},
    VERSION: {
        "version": str,
        "run": str,
        "line": str,
        "reason": str,
        "sha256": str,
        "size": int,
        "format": str,
        "revision": int,
        "registered": str,
        "slot": str,
        "data_set": str,
        "signature": str,
        "libraries": str,
        "metrics": str,
    },
    LOOP: {"loop": str, "task": str, "revision": int},
    PIPELINE: {},
    RUN_CONTEXT: {},
    NODE: {},
}


def register(store: Any) -> dict[str, int]:
    """Make the types, or add what they lack, beside whatever TFX has added to its own; their ids by name."""
    run = proto.ExecutionType(name=RUN, base_type=proto.ExecutionType.TRAIN)
    data_set = proto.ArtifactType(name=DATA_SET, base_type=proto.ArtifactType.DATASET)
    version = proto.ArtifactType(name=VERSION, base_type=proto.ArtifactType.MODEL)
    contexts = [proto.ContextType(name=name) for name in (LOOP, PIPELINE, RUN_CONTEXT, NODE)]
    for kind in (run, data_set, version, *contexts):
        for name, of in PROPERTIES[kind.name].items():
            kind.properties[name] = _KINDS[of]
    evolve = {"can_add_fields": True, "can_omit_fields": True}
    return {
        RUN: store.put_execution_type(run, **evolve),
        DATA_SET: store.put_artifact_type(data_set, **evolve),
        VERSION: store.put_artifact_type(version, **evolve),
        **{kind.name: store.put_context_type(kind, **evolve) for kind in contexts},
    }


def of_run(run: Run) -> dict[str, Any]:
    """The properties of a run, and its metrics."""
    plain = {name: getattr(run, name) for name in PROPERTIES[RUN] if name not in ("run", "model", "metrics")}
    return {**plain, "run": run.name, "model": _json(run.model), **_metrics(run.metrics)}


def of_data_set(data_set: DataSet) -> dict[str, Any]:
    """The properties of a data set."""
    return {name: getattr(data_set, name) for name in PROPERTIES[DATA_SET]}


def of_version(version: Version) -> dict[str, Any]:
    """The properties of a version, and its metrics; `slot` is empty where it has none any more."""
    own = ("run", "line", "reason", "sha256", "size", "format", "revision", "registered")
    return {
        **{name: getattr(version, name) for name in own},
        "version": version.name,
        "slot": version.slot or "",
        "data_set": version.learned.name if version.learned else None,
        "signature": _json(version.signature),
        "libraries": _json(version.libraries),
        **_metrics(version.metrics),
    }


def fill(node: Any, found: Any, about: Mapping[str, Any], properties: Mapping[str, type] = NOTHING) -> bool:
    """Give a node what the store has of it and what is known now; whether that differs. What is None stays."""
    if found is not None:
        node.CopyFrom(found)
    for name, value in about.items():
        if value is not None:
            given, field = node.properties if name in properties else node.custom_properties, _field(properties, name)
            if name not in given or not _is_same(getattr(given[name], field), value):
                setattr(given[name], field, value)
    return found is None or node != found


def _field(properties: Mapping[str, type], name: str) -> str:
    return _VALUES[_KINDS[properties.get(name, float)]]


def _is_same(stored: Any, value: Any) -> bool:
    return isclose(stored, value, abs_tol=DECIMALS) if isinstance(value, float) else bool(stored == value)


def _metrics(metrics: Mapping[str, float]) -> dict[str, Any]:
    each = {f"{METRIC}{name}": value for name, value in metrics.items()}
    return {**each, "metrics": _json(metrics)} if metrics else {}


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
