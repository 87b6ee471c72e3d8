"""Prints what a SQLite file of ML Metadata holds, as JSON: FILE. Runs in its environment."""

from __future__ import annotations

import json
import sys
from typing import Any

from ml_metadata.metadata_store.metadata_store import MetadataStore  # type: ignore[import-not-found]
from ml_metadata.proto import metadata_store_pb2 as proto  # type: ignore[import-not-found]


def dump(file: str) -> dict[str, Any]:
    """Nodes by id with their properties, contexts as type and name, and events."""
    config = proto.ConnectionConfig()
    config.sqlite.filename_uri = file
    store = MetadataStore(config)
    executions, artifacts = store.get_executions(), store.get_artifacts()
    events = store.get_events_by_execution_ids([one.id for one in executions]) if executions else []
    return {
        "executions": [_node(one, state=proto.Execution.State.Name(one.last_known_state)) for one in executions],
        "artifacts": [_node(one, uri=one.uri, state=proto.Artifact.State.Name(one.state)) for one in artifacts],
        "contexts": sorted([one.type, one.name] for one in store.get_contexts()),
        "events": [[e.execution_id, e.artifact_id, proto.Event.Type.Name(e.type), _path(e)] for e in events],
        "bases": {one.name: one.base_type for one in (*store.get_artifact_types(), *store.get_execution_types())},
    }


def _node(node: Any, **more: str) -> dict[str, Any]:
    properties = (*node.properties.items(), *node.custom_properties.items())
    values = {name: getattr(value, value.WhichOneof("value")) for name, value in properties}
    return {**values, "id": node.id, "type": node.type, "node": node.name, **more}


def _path(event: Any) -> str:
    return "/".join(str(getattr(step, step.WhichOneof("value"))) for step in event.path.steps)


if __name__ == "__main__":
    sys.stdout.write(json.dumps(dump(sys.argv[1])))
