"""Writes experiments, runs, versions and aliases to another MLflow server, so that a second time changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, TypeVar

from everloop_registry.adapters.mirror import MirrorRefused
from everloop_registry.adapters.mirror_server import MlflowServer
from everloop_registry.adapters.mirror_state import MirrorState
from everloop_registry.adapters.version_reader import SqlVersionReader
from everloop_registry.domain.aliases import Aliases
from everloop_registry.domain.mlflow_model import NumberedVersion
from everloop_registry.domain.tracking import PROXY, experiment_id
from everloop_registry.errors import ArtifactNotFound
from everloop_registry.ports import ArtifactFiles
from everloop_schemas.envelope import Event
from everloop_schemas.registry import Decided, VersionRegistered
from everloop_schemas.tracking import NoteChange, RunChange, RunLogged
from everloop_shared.messaging.routes import Position

T = TypeVar("T")
PER_REQUEST = 100
"""Values that one request logs: MLflow takes 100 parameters, 100 tags and 1,000 metrics."""
VERSION_TAG, RUN_TAG, FILES_TAG = "everloop.version", "everloop.run", "everloop.files"


class MirrorWriter:
    """Applies the registry's events, in their order, to another server.

    Whatever is created there carries our name as a tag, by which it is found again.
    """

    def __init__(
        self, server: MlflowServer, state: MirrorState, versions: SqlVersionReader, files: ArtifactFiles
    ) -> None:
        self._server, self._state, self._versions, self._files = server, state, versions, files

    async def apply(self, event: Event, at: Position) -> None:
        """Write what an event says; raises MirrorAway or MirrorRefused."""
        if isinstance(event, RunLogged):
            await self._apply_logged(event)
        elif isinstance(event, VersionRegistered):
            if (number := await self._versions.number(event.loop, event.data.model.version)) is not None:
                await self._version(event.loop, number)
        elif isinstance(event, Decided):
            await self._apply_decision(event)

    async def leave_out(self, event: Event) -> None:
        """Nothing that comes later depends on it."""

    async def _apply_logged(self, event: RunLogged) -> None:
        if (experiment := event.data.experiment) is not None:
            remote = await self._experiment(experiment.id)
            for key, value in experiment.tags.items():
                tag = {"experiment_id": remote, "key": key, "value": value}
                await self._server.post("experiments/set-experiment-tag", tag)
        if (run := event.data.run) is not None:
            await self._log(await self._run(run.id, event.loop), run)
        if (note := event.data.note) is not None:
            await self._note(event.loop, note)

    async def _apply_decision(self, decision: Decided) -> None:
        stored = await self._state.get("aliases", decision.loop)
        before = Aliases(*json.loads(stored)) if stored else Aliases()
        after = before.after(decision)
        for alias, version in after.by_name().items():
            if version != before.by_name()[alias]:
                await self._set_alias(decision.loop, alias, version)
        self._state.put("aliases", decision.loop, json.dumps(after))

    async def _set_alias(self, loop: str, alias: str, version: str | None) -> None:
        number = await self._versions.number(loop, version) if version else None
        if number is None:
            with suppress(MirrorRefused):  # there is none
                await self._server.post("registered-models/alias", {"name": loop, "alias": alias}, "DELETE")
            return
        of = {"name": loop, "alias": alias, "version": await self._version(loop, number)}
        await self._server.post("registered-models/alias", of)

    async def _experiment(self, experiment: str) -> str:
        """The id of an experiment over there."""
        if (known := await self._state.get("experiment", experiment)) is not None:
            return known
        name = await self._versions.experiment_name(experiment)
        if name is None:
            raise MirrorRefused("RESOURCE_DOES_NOT_EXIST", f"there is no experiment {experiment} here")
        try:
            found = (await self._server.get("experiments/get-by-name", experiment_name=name))["experiment"]
        except MirrorRefused:
            found = await self._server.post("experiments/create", {"name": name})
        if found.get("lifecycle_stage") == "deleted":
            await self._server.post("experiments/restore", {"experiment_id": found["experiment_id"]})
        self._state.put("experiment", experiment, found["experiment_id"])
        return str(found["experiment_id"])

    async def _run(self, run: str, loop: str) -> str:
        """The id of a run over there; it is created with what is known of it now."""
        if (known := await self._state.get("run", run)) is not None:
            return known
        row = await self._versions.run(run)
        experiment = await self._experiment(row.experiment if row else experiment_id(loop))
        query = {"experiment_ids": [experiment], "filter": f"tags.`{RUN_TAG}` = '{run}'", "max_results": 1}
        found = (await self._server.post("runs/search", query)).get("runs")
        if not found:
            new: dict[str, Any] = {"experiment_id": experiment, "tags": [{"key": RUN_TAG, "value": run}]}
            new |= {"run_name": row.name, "user_id": row.user, "start_time": row.started_ms} if row else {}
            found = [(await self._server.post("runs/create", new))["run"]]
        remote = str(found[0]["info"]["run_id"])
        self._state.put("run", run, remote)
        return remote

    async def _log(self, remote: str, run: RunChange) -> None:
        metrics: list[dict[str, Any]] = [
            {"key": m.key, "value": "NaN" if m.nan else m.value, "timestamp": m.time_ms, "step": m.step}
            for m in run.metrics
        ]
        logged = (("metrics", metrics), ("params", _pairs(run.parameters)), ("tags", _pairs(run.tags)))
        for kind, values in logged:
            for part in _parts(values):
                await self._server.post("runs/log-batch", {"run_id": remote, kind: part})
        inputs = [
            {
                "dataset": {"name": i.name, "digest": i.digest, "source_type": i.source_type, "source": i.source},
                "tags": _pairs(i.tags),
            }
            for i in run.inputs
        ]
        if inputs:
            await self._server.post("runs/log-inputs", {"run_id": remote, "datasets": inputs})
        changes = {"status": run.status, "end_time": run.ended_ms, "run_name": run.name}
        if changed := {name: value for name, value in changes.items() if value is not None}:
            await self._server.post("runs/update", {"run_id": remote, **changed})

    async def _note(self, loop: str, note: NoteChange) -> None:
        of = (
            {"name": loop} if note.number is None else {"name": loop, "version": await self._version(loop, note.number)}
        )
        where = "registered-models" if note.number is None else "model-versions"
        if note.number is None:
            await self._model(loop)
        if note.description is not None:
            await self._server.post(f"{where}/update", {**of, "description": note.description}, "PATCH")
        for key, value in note.tags.items():
            await self._server.post(f"{where}/set-tag", {**of, "key": key, "value": value})

    async def _model(self, loop: str) -> None:
        if await self._state.get("model", loop) is not None:
            return
        try:
            await self._server.post("registered-models/create", {"name": loop})
        except MirrorRefused as e:
            if e.code != "RESOURCE_ALREADY_EXISTS":
                raise
        self._state.put("model", loop, loop)

    async def _version(self, loop: str, number: int) -> str:
        """The number of a version over there; it is created, with its files, where it is not there yet."""
        if (known := await self._state.get("version", f"{loop}/{number}")) is not None:
            return known
        version = await self._versions.version(loop, number)
        if version is None:
            raise MirrorRefused("RESOURCE_DOES_NOT_EXIST", f"{loop} has no version {number} here")
        await self._model(loop)
        name = version.model.version
        query = {"filter": f"name = '{loop}' AND tags.`{VERSION_TAG}` = '{name}'", "max_results": "1"}
        found = (await self._server.get("model-versions/search", **query)).get("model_versions")
        remote = str(found[0]["version"]) if found else await self._create_version(version)
        self._state.put("version", f"{loop}/{number}", remote)
        return remote

    async def _create_version(self, version: NumberedVersion) -> str:
        loop, run = version.spec.loop, await self._run(version.run, version.spec.loop)
        info = (await self._server.get("runs/get", run_id=run))["run"]["info"]
        uri = f"{info['artifact_uri'].rstrip('/')}/versions/{version.number}"
        uploaded = uri.startswith(PROXY) and await self._upload(version, uri)
        source = uri if uploaded else f"everloop:/{loop}/{version.number}"
        tags = {
            VERSION_TAG: version.model.version,
            RUN_TAG: version.model.run,
            FILES_TAG: "here" if uploaded else "there",
        }
        new = {"name": loop, "source": source, "run_id": run, "tags": _pairs(tags)}
        return str((await self._server.post("model-versions/create", new))["model_version"]["version"])

    async def _upload(self, version: NumberedVersion, uri: str) -> bool:
        """Whether the version's files are there now; an artifact that is no longer kept cannot be uploaded."""
        folder = f"versions/{version.spec.loop}/{version.number}"
        to = uri.removeprefix(PROXY).lstrip("/")
        try:
            for entry in await self._files.entries(folder):
                file = await self._files.open(f"{folder}/{entry.path}")
                await self._server.upload(f"{to}/{entry.path}", file.size, file.chunks)
        except ArtifactNotFound:
            return False
        return True


def _pairs(texts: dict[str, str]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value} for key, value in texts.items()]


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[n : n + PER_REQUEST] for n in range(0, len(values), PER_REQUEST))
