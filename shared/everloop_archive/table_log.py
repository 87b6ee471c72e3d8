"""A table's log: a Delta Lake log (protocol, reader version 1, writer version 2), read and committed to. Blocks.

It is what makes the archive exactly once: a commit names the data files and, with them, the position in the partition
that they reach; it is created exclusively, so that of two writers one loses, and finds out.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Self
from uuid import uuid4

from everloop_archive.checkpoints import read_checkpoint, write_checkpoint
from everloop_archive.delta_schema import schema_of, schema_text
from everloop_archive.errors import ArchiveCorrupt, ArchiveUnavailable, CommitConflict
from everloop_archive.layout import (
    DAY,
    LAST_CHECKPOINT,
    FileName,
    TableName,
    checkpoint_path,
    commit_path,
    position_id,
)
from everloop_archive.stores import ArchiveStore

log = logging.getLogger(__name__)
CHECKPOINT_EVERY = 100
"""Commits between two checkpoints; a reader reads one checkpoint and the commits after it."""
Action = dict[str, Any]


class DataFile(NamedTuple):
    """A data file that a commit names."""

    name: FileName
    size: int
    rows: int
    modified_ms: int

    def add(self) -> Action:
        """The action that adds it to the table."""
        bounds = {"partition": self.name.partition, "offset": self.name.first}
        ends = {"partition": self.name.partition, "offset": self.name.last}
        stats = {"numRecords": self.rows, "minValues": bounds, "maxValues": ends, "nullCount": dict.fromkeys(ends, 0)}
        return {
            "add": {
                "path": self.name.path,
                "partitionValues": {DAY: str(self.name.day)},
                "size": self.size,
                "modificationTime": self.modified_ms,
                "dataChange": True,
                "stats": json.dumps(stats, separators=(",", ":")),
            }
        }

    @classmethod
    def of(cls, add: Action) -> Self:
        """The file in the body of an `add` action."""
        rows = json.loads(add["stats"])["numRecords"]
        return cls(FileName.parse(add["path"]), add["size"], rows, add["modificationTime"])


@dataclass(frozen=True)
class TableState:
    """What a table's log says up to commit `version`, -1 where there is no table yet; without its files.

    `positions` are numbers by name: those of `layout.position_id` and `layout.owner_id`.
    """

    version: int = -1
    schema: Any = None
    metadata: Action = field(default_factory=dict)
    positions: Mapping[str, int] = field(default_factory=dict)

    def after(self, actions: Iterable[Action], version: int) -> TableState:
        """The state after commit `version`, which has these actions, or after the checkpoint of it."""
        schema, metadata, positions = self.schema, self.metadata, dict(self.positions)
        for action in actions:
            if "metaData" in action:
                metadata = action["metaData"]
                schema = schema_of(metadata["schemaString"])
            elif "txn" in action:
                positions[action["txn"]["appId"]] = action["txn"]["version"]
        return replace(self, version=version, schema=schema, metadata=metadata, positions=positions)


class TableLog:
    """The log of one table."""

    def __init__(self, store: ArchiveStore, table: TableName) -> None:
        self.store, self.table = store, table

    def read(self) -> TableState:
        """The present state: the last checkpoint, and the commits after it. Raises ArchiveUnavailable."""
        state = TableState()
        for version, actions in self._log():
            state = state.after(actions, version)
        return state

    def read_with_files(self) -> tuple[TableState, list[DataFile]]:
        """The present state and its data files, in the order of the commits. Raises ArchiveUnavailable."""
        state, files = TableState(), list[DataFile]()
        for version, actions in self._log():
            state = state.after(actions, version)
            files += added(actions)
        return state, files

    def commits_after(self, version: int, upto: int | None = None) -> Iterator[tuple[int, list[Action]]]:
        """The commits after one, up to version `upto` or as far as there are any now, in order."""
        while version != upto and (actions := self.commit_at(version + 1)) is not None:
            version += 1
            yield version, actions

    def position(self, state: TableState, partition: int) -> int:
        """The offset after the last one of a partition that the table has, 0 where it has none."""
        return state.positions.get(position_id(self.table.topic, partition), 0)

    def files(self, upto: int | None = None) -> list[DataFile]:
        """The data files that commits up to version `upto`, or all, name; in the order of the commits."""
        return [file for _, actions in self._log(upto) for file in added(actions)]

    def commit(
        self,
        state: TableState,
        files: Iterable[DataFile],
        positions: Mapping[str, int],
        schema: Any = None,
        operation: str = "WRITE",
    ) -> TableState:
        """Make the next commit, and return the state after it: all of these files and positions, or nothing.

        `schema` is given where it has changed. Raises CommitConflict where another writer has made that commit, and
        ArchiveUnavailable where it is not known whether it was made: then read the log again.
        """
        attempt = uuid4().hex
        actions = [*self._head(state, schema), *(file.add() for file in files), *_transactions(positions)]
        actions.append({"commitInfo": _commit_info(operation, attempt)})
        path = f"{self.table.folder}/{commit_path(state.version + 1)}"
        lines = [json.dumps(action, separators=(",", ":"), ensure_ascii=False) for action in actions]
        if not self.store.create(path, "\n".join(lines).encode() + b"\n"):
            there = self.commit_at(state.version + 1)
            if there is None or _attempt_of(there) != attempt:  # else an answer was lost, and the request repeated
                raise CommitConflict(f"commit {state.version + 1} of {self.table.folder} is another writer's")
        made = state.after(actions, state.version + 1)
        if made.version and made.version % CHECKPOINT_EVERY == 0:
            self._write_checkpoint(made.version)
        return made

    def commit_at(self, version: int) -> list[Action] | None:
        """The actions of a commit, None where it is not made yet; raises ArchiveCorrupt where it is no commit."""
        data = self.store.read(f"{self.table.folder}/{commit_path(version)}")
        if data is None:
            return None
        try:
            return [json.loads(line) for line in data.splitlines() if line.strip()]
        except ValueError as e:
            raise ArchiveCorrupt(f"commit {version} of {self.table.folder} is no commit: {e}") from e

    def _head(self, state: TableState, schema: Any) -> list[Action]:
        """The actions before the files: protocol and metadata in the first commit, metadata where it changes."""
        if schema is None:
            return []
        metadata = state.metadata or {
            "id": str(uuid4()),
            "name": f"{self.table.kind} of {self.table.loop}",
            "format": {"provider": "parquet", "options": {}},
            "partitionColumns": [DAY],
            "configuration": {},
            "createdTime": now_ms(),
        }
        first: list[Action] = [] if state.metadata else [{"protocol": {"minReaderVersion": 1, "minWriterVersion": 2}}]
        return [*first, {"metaData": {**metadata, "schemaString": schema_text(schema)}}]

    def _log(self, upto: int | None = None) -> Iterator[tuple[int, list[Action]]]:
        """The actions of each commit and its version; of those that a checkpoint has replaced, what still counts."""
        version, checkpoint = -1, self._last_checkpoint()
        if checkpoint is not None and (upto is None or checkpoint[0] <= upto):
            version, _ = checkpoint
            yield checkpoint
        yield from self.commits_after(version, upto)

    def _last_checkpoint(self) -> tuple[int, list[Action]] | None:
        """The last checkpoint and its version; None where there is none that can be read: commits tell the same."""
        pointer = self.store.read(f"{self.table.folder}/{LAST_CHECKPOINT}")
        if pointer is None:
            return None
        try:
            version = int(json.loads(pointer)["version"])
            data = self.store.read(f"{self.table.folder}/{checkpoint_path(version)}")
            return None if data is None else (version, read_checkpoint(data))
        except (ValueError, KeyError, TypeError) as e:
            log.warning("a checkpoint cannot be read", extra={"table": self.table.folder, "reason": repr(e)})
            return None

    def _write_checkpoint(self, version: int) -> None:
        """Write a checkpoint after a commit; without it, readers read more commits."""
        try:
            data, actions = write_checkpoint(action for _, actions in self._log(version) for action in actions)
            self.store.write(f"{self.table.folder}/{checkpoint_path(version)}", data)
            pointer = json.dumps({"version": version, "size": actions}).encode()
            self.store.write(f"{self.table.folder}/{LAST_CHECKPOINT}", pointer)
        except ArchiveUnavailable as e:
            log.warning("no checkpoint written", extra={"table": self.table.folder, "reason": e.detail})


def added(actions: Iterable[Action]) -> list[DataFile]:
    """The data files that actions add."""
    return [DataFile.of(action["add"]) for action in actions if "add" in action]


def now_ms() -> int:
    """The time in ms since the epoch."""
    return int(time.time() * 1000)


def _transactions(positions: Mapping[str, int]) -> Iterator[Action]:
    for name, number in positions.items():
        yield {"txn": {"appId": name, "version": number, "lastUpdated": now_ms()}}


def _commit_info(operation: str, attempt: str) -> Action:
    return {"timestamp": now_ms(), "operation": operation, "engineInfo": "everloop", "attempt": attempt}


def _attempt_of(actions: Iterable[Action]) -> str | None:
    return next((action["commitInfo"].get("attempt") for action in actions if "commitInfo" in action), None)
