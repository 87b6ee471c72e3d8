"""What the registry does where MLflow's client registers what somebody logged: it becomes a submitted model."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

from everloop_models.formats.onnx.interface import GivenInterface
from everloop_registry.domain.artifact_paths import ArtifactPath, FileEntry, read_path, read_uri
from everloop_registry.domain.mlflow_model import MLFLOW_MODEL, MLFLOW_RUN, MLMODEL
from everloop_registry.domain.mlflow_source import (
    LARGEST_MLMODEL_BYTES,
    LoggedModelSource,
    RunSource,
    read_mlmodel,
    read_source,
    trainer_name,
)
from everloop_registry.domain.submission import SubmittedModel, SubmittedVersion
from everloop_registry.domain.tracking import LoggedModel
from everloop_registry.errors import ArtifactNotFound, LoggedModelNotFound, LoggedModelRefused
from everloop_registry.handlers.submissions import SubmissionHandlers
from everloop_registry.ports import ArtifactFiles, LoggedModelReader, VersionNumbers
from everloop_shared.commands import Command

NO_WEIGHTS = frozenset({MLMODEL, "conda.yaml", "python_env.yaml", "requirements.txt"})
"""Files beside an ONNX file that hold no weights of it."""
MAX_METRICS = 100


@dataclass(frozen=True)
class _Found:
    """A folder with an MLmodel file, and who logged it."""

    folder: str
    name: str
    model: LoggedModel | None
    run: str | None


@dataclass
class RegistrationHandlers:
    """Reads a logged model from the registry's own store, and submits it as any model that was trained elsewhere."""

    submissions: SubmissionHandlers
    models: LoggedModelReader
    versions: VersionNumbers
    files: ArtifactFiles
    max_bytes: int

    async def register(self, command: Command, loop: str, source: str, run: str | None) -> SubmittedVersion:
        """The version that a logged model has become; the same model is the same version.

        Raises LoopNotFound, ArtifactPathRefused for a source that is not in the registry's own store, ArtifactNotFound,
        LoggedModelRefused, and what `submit_model` raises.
        """
        await self.submissions.require_loop(loop)
        found = await self._find(source, run)
        onnx = read_mlmodel(await self._read(f"{found.folder}/{MLMODEL}", LARGEST_MLMODEL_BYTES))
        data, weights = await self._read_model(found.folder, onnx.file)
        parameters = {MLFLOW_RUN: found.run, MLFLOW_MODEL: found.model.id if found.model else None}
        submitted = SubmittedModel(
            trainer_name(found.name),
            data,
            GivenInterface(features=onnx.features),
            await self._metrics(found.model),
            weights=weights,
            parameters={name: value for name, value in parameters.items() if value},
        )
        return await self.submissions.submit_model(command, loop, submitted)

    async def _find(self, source: str, run: str | None) -> _Found:
        run = run if run and await self.versions.run(run) else None
        match read_source(source):
            case LoggedModelSource(model):
                if (known := await self.models.logged_model(model)) is None:
                    raise LoggedModelNotFound(f"Logged model with ID {model!r} not found.")
                return self._logged(known)
            case RunSource(of, path):
                own = read_path(f"runs/{of}/{path}")
                if (logged := await self.models.named_in_run(of, path)) and not await self.files.entries(own.name):
                    return self._logged(logged)
                return _Found(own.name, own.rest[-1], None, of)
        own = read_uri(source)
        return await self._placed(own, run)

    async def _placed(self, own: ArtifactPath, run: str | None) -> _Found:
        if own.kind == "versions" or (not own.rest[-1:] and own.kind == "runs"):
            raise LoggedModelRefused(f"{own.name[:200]!r} is no logged model; register what was logged: models:/m-...")
        if own.kind == "logged-models" and (known := await self.models.logged_model(own.owner)) is not None:
            return self._logged(known)
        return _Found(own.name, own.rest[-1] if own.rest else own.owner, None, own.owner if own.kind == "runs" else run)

    def _logged(self, model: LoggedModel) -> _Found:
        return _Found(read_uri(model.artifact_location).name, model.name, model, model.run)

    async def _read_model(self, folder: str, file: str) -> tuple[bytes, Mapping[str, bytes]]:
        """The ONNX file, and what lies beside it, which may hold weights."""
        place, _, name = f"{folder}/{file}".rpartition("/")
        entries = {e.path: e for e in await self.files.entries(place) if not e.is_dir}
        if name not in entries:
            raise ArtifactNotFound(f"its MLmodel file names {file[:200]!r}, which was not logged")
        beside = [e for e in entries.values() if e.path not in NO_WEIGHTS | {name}]
        self._check_size([entries[name], *beside])
        weights = {e.path: await self._read(f"{place}/{e.path}", self.max_bytes) for e in beside}
        return await self._read(f"{place}/{name}", self.max_bytes), weights

    def _check_size(self, entries: list[FileEntry]) -> None:
        if (size := sum(e.size or 0 for e in entries)) > self.max_bytes:
            raise LoggedModelRefused(
                f"the model and the files beside it have {size:,} bytes; at most {self.max_bytes:,} are taken "
                "(EVERLOOP_REGISTRY_MAX_ARTIFACT_BYTES)"
            )

    async def _read(self, path: str, most: int) -> bytes:
        try:
            file = await self.files.open(path)
        except ArtifactNotFound as e:
            raise ArtifactNotFound(f"there is no {path.rpartition('/')[2]} in {path.rpartition('/')[0][:200]!r}") from e
        if file.size > most:
            raise LoggedModelRefused(f"{path[:200]!r} has {file.size:,} bytes; at most {most:,} are read")
        return await asyncio.to_thread(b"".join, file.chunks)

    async def _metrics(self, model: LoggedModel | None) -> dict[str, float]:
        if model is None:
            return {}
        [found] = await self.models.details([model])
        return {m.key: m.value for m in found.metrics[:MAX_METRICS] if not m.nan and isfinite(m.value)}
