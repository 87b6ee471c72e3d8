"""Writes lineage to ML Metadata, the store of TFX and Kubeflow Pipelines; imports `ml-metadata`.

A run is an execution, data sets and versions are artifacts, INPUT and OUTPUT events join them. Names are unique in
their type, so that what is there already is found, and is changed only where it differs.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote, urlsplit

from ml_metadata import errors  # type: ignore[import-not-found]
from ml_metadata.metadata_store import metadata_store  # type: ignore[import-not-found]
from ml_metadata.proto import metadata_store_pb2 as proto  # type: ignore[import-not-found]

from everloop.errors import EverloopError
from everloop.lineage import mlmd_types as types
from everloop.lineage.graph import DataSet, Lineage, Run, Version
from everloop_shared.clock import read_time

ATTEMPTS = 3
GRPC_TIMEOUT_S, GRPC_BYTES = 30.0, 256_000_000
PIECE = 500
"""Versions that are written at once: a server takes 4 MB in a request."""
STATES = {"running": proto.Execution.RUNNING, "trained": proto.Execution.COMPLETE, "failed": proto.Execution.FAILED}
INPUT, OUTPUT = proto.Event.INPUT, proto.Event.OUTPUT
LIVE, DELETED = proto.Artifact.LIVE, proto.Artifact.DELETED


class StoreUnavailable(EverloopError):
    """The metadata store cannot be opened, does not answer, or refuses what is written."""


class UriInvalid(EverloopError):
    """What was given names no store."""


@dataclass
class Written:
    """What an export has added or changed: runs, artifacts and events."""

    runs: int = 0
    artifacts: int = 0
    events: int = 0

    def __bool__(self) -> bool:
        return bool(self.runs or self.artifacts or self.events)


@dataclass
class _Known:
    """What the store has of a pipeline: executions and artifacts by type and name, and its events."""

    nodes: dict[tuple[type, int, str], Any] = field(default_factory=dict)
    events: set[tuple[int, int, int]] = field(default_factory=set)
    runs: dict[str, Run] = field(default_factory=dict)


def open_store(uri: str) -> Any:
    """The store at `sqlite:///FILE`, `sqlite:////FILE` (absolute) or `grpc://HOST:PORT`.

    Raises UriInvalid and StoreUnavailable.
    """
    parts = urlsplit(uri)
    logging.getLogger("absl").setLevel(logging.ERROR)  # it would print the traceback of what is raised here
    try:
        if parts.scheme == "sqlite" and not parts.netloc and len(parts.path) > 1:
            config = proto.ConnectionConfig()
            config.sqlite.filename_uri = unquote(parts.path[1:])
            config.sqlite.connection_mode = proto.SqliteMetadataSourceConfig.READWRITE_OPENCREATE
            return metadata_store.MetadataStore(config)
        if parts.scheme == "grpc" and parts.hostname and parts.port:
            host, port = parts.hostname, parts.port
            client = proto.MetadataStoreClientConfig(host=host, port=port, client_timeout_sec=GRPC_TIMEOUT_S)
            client.channel_arguments.max_receive_message_length = GRPC_BYTES
            return metadata_store.MetadataStore(client)
    except ValueError as e:
        raise UriInvalid(f"--mlmd {uri}: {e}") from e
    except errors.StatusError as e:
        raise StoreUnavailable(f"--mlmd {uri}: {e}") from e
    raise UriInvalid(f"--mlmd {uri}: write sqlite:///FILE, or grpc://HOST:PORT of a metadata store server")


class MlmdWriter:
    """Writes the lineage of a loop as one pipeline, which has this name in the store."""

    def __init__(self, store: Any, pipeline: str) -> None:
        self._store, self._pipeline = store, pipeline
        self._types: dict[str, int] = {}
        self._contexts: dict[tuple[str, str], Any] = {}
        self._known: _Known | None = None

    def write(self, lineage: Lineage) -> Written:
        """Bring the store up to date, run by run, each in a transaction or a few; raises StoreUnavailable.

        Another writer may be at work on the same pipeline: what it has added meanwhile is read, and counts.
        """
        written = Written()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._write(lineage, written)
                break
            except errors.StatusError as e:
                self._known = None
                self._contexts.clear()
                if attempt == ATTEMPTS or not isinstance(e, errors.AlreadyExistsError):
                    raise StoreUnavailable(f"the metadata store does not take it: {e}") from e
        return written

    def _write(self, lineage: Lineage, written: Written) -> None:
        if not self._types:
            self._types = types.register(self._store)
        about = {"loop": lineage.loop, "task": lineage.task, "revision": lineage.revision}
        loop = self._context(types.LOOP, self._pipeline, about)
        if self._known is None:
            self._known = self._read(loop.id)
        for run in lineage.runs:
            if self._known.runs.get(run.name) != run:
                self._write_run(self._known, run, written)
                self._known.runs[run.name] = run

    def _read(self, context: int) -> _Known:
        executions = self._store.get_executions_by_context(context, metadata_store.ListOptions())
        artifacts = self._store.get_artifacts_by_context(context, metadata_store.ListOptions())
        found = self._store.get_events_by_execution_ids([e.id for e in executions]) if executions else []
        nodes = {(type(node), node.type_id, node.name): node for node in (*executions, *artifacts)}
        return _Known(nodes, {(event.execution_id, event.artifact_id, event.type) for event in found})

    def _context(self, kind: str, name: str, about: Mapping[str, Any] = types.NOTHING) -> Any:
        """A context, made where it is missing and changed where it differs."""
        found = self._contexts.get((kind, name)) or self._store.get_context_by_type_and_name(kind, name)
        node = proto.Context(name=name, type_id=self._types[kind])
        if types.fill(node, found, about, types.PROPERTIES[kind]):
            [node.id] = self._store.put_contexts([node])
        self._contexts[kind, name] = node
        return node

    def _write_run(self, known: _Known, run: Run, written: Written) -> None:
        places = {data_set.name: n for n, data_set in enumerate(run.inputs())}
        for start in range(0, max(1, len(run.versions)), PIECE):
            versions = run.versions[start : start + PIECE]
            change = _Change(known, self._types)
            execution = change.add(proto.Execution(last_known_state=STATES[run.state]), types.RUN, *self._run(run))
            for data_set in replace(run, versions=versions).inputs():
                artifact = change.add(proto.Artifact(), types.DATA_SET, *self._data_set(data_set))
                at = run.finished or run.requested
                change.join(execution, artifact, INPUT, ("data_set", places[data_set.name]), at)
            for n, version in enumerate(versions, start):
                given = proto.Artifact(uri=version.uri, state=LIVE if version.kept else DELETED)
                artifact = change.add(given, types.VERSION, *self._version(version))
                change.join(execution, artifact, OUTPUT, ("model", n), version.registered)
            if not change.is_empty:
                change.put(self._store, execution, self._contexts_of(run), written)

    def _contexts_of(self, run: Run) -> list[Any]:
        names = {
            types.LOOP: self._pipeline,
            types.PIPELINE: self._pipeline,
            types.RUN_CONTEXT: f"{self._pipeline}.{run.name}",
            types.NODE: f"{self._pipeline}.{run.line}",
        }
        return [self._context(kind, name) for kind, name in names.items()]

    def _run(self, run: Run) -> tuple[str, dict[str, Any]]:
        return f"{self._pipeline}/{run.name}", types.of_run(run)

    def _data_set(self, data_set: DataSet) -> tuple[str, dict[str, Any]]:
        return f"{self._pipeline}/{data_set.name}", types.of_data_set(data_set)

    def _version(self, version: Version) -> tuple[str, dict[str, Any]]:
        return f"{self._pipeline}/{version.name}#{version.revision}", types.of_version(version)


class _Change:
    """What is new, or differs, of one run."""

    def __init__(self, known: _Known, type_ids: Mapping[str, int]) -> None:
        self._known, self._type_ids = known, type_ids
        self._changed: list[Any] = []
        self._joined: list[tuple[Any, Any]] = []

    @property
    def is_empty(self) -> bool:
        """Whether the store has all of it."""
        return not (self._changed or self._joined)

    def add(self, given: Any, kind: str, name: str, about: Mapping[str, Any]) -> Any:
        """A node as it should be; `given` has what is no property."""
        type_id = self._type_ids[kind]
        found = self._known.nodes.get((type(given), type_id, name))
        node = type(given)(name=name, type_id=type_id)
        types.fill(node, found, about, types.PROPERTIES[kind])
        node.MergeFrom(given)
        if node != found:
            self._changed.append(node)
        return node

    def join(self, execution: Any, artifact: Any, kind: int, path: tuple[str, int], at: str | None) -> None:
        """An event that joins both, unless the store has it."""
        if (execution.id, artifact.id, kind) in self._known.events:
            return
        event = proto.Event(type=kind)
        event.path.steps.add().key, event.path.steps.add().index = path
        if at and (moment := read_time(at)):
            event.milliseconds_since_epoch = round(moment.timestamp() * 1000)
        self._joined.append((artifact, event))

    def put(self, store: Any, execution: Any, contexts: Sequence[Any], written: Written) -> None:
        """Write it in one transaction, and know it from now on."""
        changed = [node for node in self._changed if node is not execution]
        artifacts = list({id(one): one for one in (*changed, *(artifact for artifact, _ in self._joined))}.values())
        places = {id(artifact): n for n, artifact in enumerate(artifacts)}
        edges = [(0, places[id(artifact)], event) for artifact, event in self._joined]
        executions, ids, _ = store.put_lineage_subgraph(
            [execution], artifacts, contexts, edges, reuse_context_if_already_exist=True
        )
        written.runs += len(self._changed) - len(changed)
        written.artifacts += len(changed)
        written.events += len(edges)
        for node, node_id in zip((execution, *artifacts), (*executions, *ids), strict=True):
            node.id = node_id
            self._known.nodes[type(node), node.type_id, node.name] = node
        self._known.events |= {(execution.id, artifact.id, event.type) for artifact, event in self._joined}
