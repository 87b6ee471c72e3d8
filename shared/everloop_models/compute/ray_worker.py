"""What a Ray worker does, sent to it as code: it imports nothing of this project before it has compared the packages.

All of it must be functions of the standard library and Ray, because a worker may have no Everloop, or another one.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import socket
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PROJECT = "everloop"
"""Stands for the code of these packages, whose digest is their version: it changes more often than the number does."""
CODE = ("everloop_features", "everloop_metrics", "everloop_models", "everloop_schemas", "everloop_shared")
LACKS = "none"
IN_USE: dict[str, Any] = {}
"""By key, the lock of each folder that this process has used; it ends with the process, however that ends."""


def call(
    expected: Mapping[str, str], key: str, files: Mapping[str, Sequence[Any]], function: str, args: Sequence[Any]
) -> dict[str, Any]:
    """`function` of a folder with the files and of `args`, where this worker has the `expected` packages.

    `files` are references to the parts of each file; they are stored once on each machine, in a folder named `key`.
    """
    found = versions(expected)
    if found != dict(expected):
        return {"host": socket.gethostname(), "found": found}
    module, _, name = function.partition(":")
    return {"result": getattr(import_module(module), name)(stored(key, files), *args)}


def versions(names: Iterable[str]) -> dict[str, str]:
    """The version of each package that is installed here."""
    return {name: _version(name) for name in names}


def _version(name: str) -> str:
    if name == "python":
        return ".".join(platform.python_version_tuple()[:2])
    if name == PROJECT:
        return code_version()
    try:
        return version(name)
    except PackageNotFoundError:
        return LACKS


def code_version() -> str:
    """The beginning of a digest over the project's code that runs here."""
    digest = hashlib.sha256()
    for package in CODE:
        found = find_spec(package)
        if found is None or not found.submodule_search_locations:
            return LACKS
        root = Path(next(iter(found.submodule_search_locations)))
        for file in sorted(root.rglob("*.py")):
            digest.update(f"{package}/{file.relative_to(root)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def stored(key: str, files: Mapping[str, Sequence[Any]]) -> Path:
    """The folder with the files; the first worker of a machine writes it, and the others wait for that."""
    with _one_at_a_time() as base:
        folder, part = base / key, base / f"{key}.part"
        if key not in IN_USE:
            _remove_unused(base)
            IN_USE[key] = (base / f"{key}.lock").open("w")
            fcntl.flock(IN_USE[key], fcntl.LOCK_SH)
        if not folder.exists():
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir()
            ray = import_module("ray")
            for name, references in files.items():
                with (part / name).open("wb") as file:
                    for reference in references:
                        file.write(ray.get(reference))
            part.rename(folder)
    return folder


def remove(key: str) -> None:
    """Remove the folder of this key on this machine."""
    with _one_at_a_time() as base:
        _remove(base, key)


@contextmanager
def _one_at_a_time() -> Iterator[Path]:
    """The folder of all folders on this machine, which one process changes at a time."""
    base = Path(tempfile.gettempdir()) / f"everloop-ray-{os.getuid()}"
    base.mkdir(mode=0o700, exist_ok=True)
    if base.lstat().st_uid != os.getuid() or not stat.S_ISDIR(base.lstat().st_mode):
        raise PermissionError(f"{base} belongs to another user")
    with (base / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield base


def _remove_unused(base: Path) -> None:
    """Remove the folders that no living process uses: their drivers or workers were killed."""
    for path in base.glob("*.lock"):
        with path.open("w") as lock, suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(base, path.stem)


def _remove(base: Path, key: str) -> None:
    for folder in (base / key, base / f"{key}.part"):
        shutil.rmtree(folder, ignore_errors=True)
    (base / f"{key}.lock").unlink(missing_ok=True)
