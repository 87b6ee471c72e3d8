"""The files that MLflow's clients read and write through the registry."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import IO, Self

from everloop_models.store import ArtifactStore
from everloop_registry.adapters.run_files import RunFiles
from everloop_registry.adapters.version_reader import SqlVersionReader
from everloop_registry.domain.artifact_paths import (
    VERSIONS,
    ArtifactPath,
    FileEntry,
    FileLimits,
    OpenFile,
    in_versions,
    read_path,
)
from everloop_registry.domain.mlflow_model import NumberedVersion, artifact_name, describe_version
from everloop_registry.errors import ArtifactNotFound, ArtifactPathRefused, TooManyFiles


class StoredArtifactFiles:
    """Files of runs and logged models in the artifact store, and those of versions, which are made when they are read.

    A run also shows the versions that it led to.
    """

    def __init__(self, versions: SqlVersionReader, files: RunFiles, store: ArtifactStore, limits: FileLimits) -> None:
        self._versions, self._files, self._store = versions, files, store
        self._limits = limits
        self._writing: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        """Remove what a crash left half written."""
        await asyncio.to_thread(self._files.remove_leftovers)
        return self

    async def __aexit__(self, *_: object) -> None:
        return None

    async def entries(self, path: str) -> list[FileEntry]:
        """What a folder holds; nothing where it does not exist, or is a file."""
        target = await self._target(path)
        if target.kind == "versions":
            return _entries(await self._version(target)) if not target.rest else []
        if target.kind == "runs" and target.rest == (VERSIONS,):
            return [FileEntry(str(number), True, None) for _, number in await self._versions.of_run(target.owner)]
        found = await asyncio.to_thread(self._files.entries, target.name)
        if target.kind == "runs" and not target.rest and await self._versions.of_run(target.owner):
            found.append(FileEntry(VERSIONS, True, None))
        return found

    async def open(self, path: str) -> OpenFile:
        """A file, to be read; raises ArtifactNotFound."""
        target = await self._target(path)
        if target.kind != "versions":
            return await asyncio.to_thread(self._files.open, target.name)
        version, name = await self._version(target), "/".join(target.rest)
        if name == artifact_name(version.model):
            return await self._open_artifact(version)
        if (data := describe_version(version).get(name)) is None:
            raise ArtifactNotFound(f"version {version.number} of {target.owner} has no file {name[:200]!r}")
        return OpenFile(len(data), iter([data]))

    async def check_writable(self, path: str) -> None:
        """Raise ArtifactPathRefused, or ArtifactNotFound where there is no such run or logged model."""
        target = _writable(path)
        if not await self._versions.has_owner(target):
            raise ArtifactNotFound(f"there is no {target.folder[:300]}, to which {path[:300]!r} would belong")

    async def write(self, path: str, file: IO[bytes], size: int) -> None:
        """Write a file of a run or of a logged model; raises as `check_writable`, or TooManyFiles."""
        await self.check_writable(path)
        target = _writable(path)
        self._writing[target.folder] += 1
        try:
            await self._check_limits(target.folder, size)
            await asyncio.to_thread(self._files.write, target.name, file)
        finally:
            self._writing[target.folder] -= 1
            self._writing += Counter()  # drops those at 0

    async def delete(self, path: str) -> None:
        """Delete a file or a folder of a run or of a logged model; idempotent."""
        await asyncio.to_thread(self._files.delete, _writable(path).name)

    async def _check_limits(self, folder: str, size: int) -> None:
        files, total = await asyncio.to_thread(self._files.count, folder)
        if files + self._writing[folder] > self._limits.files:
            raise TooManyFiles(
                f"{folder} has {files:,} files, the limit (EVERLOOP_REGISTRY_MAX_RUN_FILES); log an archive of them"
            )
        if total + size > self._limits.total_bytes:
            raise TooManyFiles(
                f"{folder} has {total:,} bytes of files; with {size:,} more it would pass the limit of "
                f"{self._limits.total_bytes:,} (EVERLOOP_REGISTRY_MAX_RUN_BYTES)"
            )

    async def _target(self, path: str) -> ArtifactPath:
        target = read_path(path)
        inside = in_versions(target)
        if inside is None:
            return target
        for loop, number in await self._versions.of_run(target.owner):
            if number == inside.number:
                return inside._replace(owner=loop)
        raise ArtifactNotFound(f"run {target.owner} led to no version {inside.number}")

    async def _version(self, target: ArtifactPath) -> NumberedVersion:
        loop, number = target.owner, target.number or await self._versions.number(target.owner, target.version)
        found = await self._versions.version(loop, number) if number else None
        if found is None:
            raise ArtifactNotFound(f"loop {loop} has no version {target.version or target.number}")
        return found

    async def _open_artifact(self, version: NumberedVersion) -> OpenFile:
        model, loop = version.model, version.spec.loop
        try:
            name = self._store.named(model.uri, loop, model.version, model.sha256, model.manifest.format)
            return await asyncio.to_thread(self._files.open, name)
        except ArtifactNotFound as e:
            raise ArtifactNotFound(
                f"the artifact of version {version.number} of {loop} ({model.version}) is no longer kept; "
                f"/v1/loops/{loop}/versions shows those that are"
            ) from e


def _writable(path: str) -> ArtifactPath:
    target = read_path(path)
    if target.kind == "versions" or target.rest[:1] == (VERSIONS,):
        raise ArtifactPathRefused("files of versions are made by the registry, and change never")
    if not target.rest:
        raise ArtifactPathRefused(f"{path[:200]!r} is the folder of all files; name one of them")
    return target


def _entries(version: NumberedVersion) -> list[FileEntry]:
    files = {name: len(data) for name, data in describe_version(version).items()}
    files[artifact_name(version.model)] = version.model.size
    return [FileEntry(name, False, size) for name, size in sorted(files.items())]
