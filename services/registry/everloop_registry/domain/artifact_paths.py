"""Where a path below `mlflow-artifacts:/` leads: to the files of a run, of a logged model, or of a version."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from everloop_registry.errors import ArtifactPathRefused
from everloop_schemas.names import is_id, is_loop_name, is_version_name

MAX_PATH_BYTES, MAX_NAME_BYTES, MAX_DEPTH = 1_000, 200, 20
VERSIONS = "versions"
"""A folder that every run seems to have: one folder for each version that the run led to, by its number."""
LARGEST_NUMBER = 2**31
Owner = Literal["runs", "logged-models", "versions"]


class FileLimits(NamedTuple):
    """The files that a run or a logged model may have, and their bytes."""

    files: int
    total_bytes: int


class FileEntry(NamedTuple):
    """A file or a folder in a folder, by its own name."""

    path: str
    is_dir: bool
    size: int | None


class OpenFile(NamedTuple):
    """A file that is being read; its chunks close it."""

    size: int
    chunks: Iterator[bytes]


class ArtifactPath(NamedTuple):
    """A path within the files of one owner: `owner` is a run, a logged model, or for a version its loop.

    A version is named by its number, or by its own name.
    """

    kind: Owner
    owner: str
    rest: tuple[str, ...]
    number: int = 0
    version: str = ""

    @property
    def folder(self) -> str:
        """The name in the store of all that the owner has; a version's files are made when they are read."""
        return f"{self.kind}/{self.owner}"

    @property
    def name(self) -> str:
        """The name in the store."""
        return "/".join((self.folder, *self.rest))


def read_path(path: str) -> ArtifactPath:
    """The path of a request, decoded once; raises ArtifactPathRefused with the reason."""
    match _checked(path):
        case ["runs", run, *rest] if is_id(run):
            return ArtifactPath("runs", run, tuple(rest))
        case ["logged-models", model, *rest] if is_id(model):
            return ArtifactPath("logged-models", model, tuple(rest))
        case ["versions", loop, version, *rest] if is_loop_name(loop) and is_version_name(version):
            return ArtifactPath("versions", loop, tuple(rest), version=version)
        case ["versions", loop, number, *rest] if is_loop_name(loop):
            return ArtifactPath("versions", loop, tuple(rest), _number(number))
    raise ArtifactPathRefused(f"{path[:200]!r} is no place of a run, a logged model or a version: use its artifact URI")


def read_uri(uri: str) -> ArtifactPath:
    """The path of a URI below this registry; raises ArtifactPathRefused for any other, which is never followed."""
    found = _HERE.fullmatch(uri)
    if found is None:
        raise ArtifactPathRefused(
            f"{uri[:200]!r} is outside of this registry, which reads only what was logged to it: log the model with "
            "the tracking URI of the registry"
        )
    return read_path(found[1])


_HERE = re.compile(r"mlflow-artifacts:/(?!/)(.+)")


def in_versions(path: ArtifactPath) -> ArtifactPath | None:
    """Where a path below the folder `versions` of a run leads, without its loop; None for another path."""
    if path.kind != "runs" or path.rest[:1] != (VERSIONS,) or len(path.rest) == 1:
        return None
    return ArtifactPath("versions", "", path.rest[2:], _number(path.rest[1]))


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 11 and 0 < int(text) < LARGEST_NUMBER):
        raise ArtifactPathRefused(f"{text[:80]!r} is no number of a version")
    return int(text)


def _checked(path: str) -> Sequence[str]:
    parts = path.strip("/").split("/")
    if len(path.encode(errors="replace")) > MAX_PATH_BYTES or len(parts) > MAX_DEPTH:
        raise ArtifactPathRefused(f"a path has at most {MAX_PATH_BYTES:,} bytes and {MAX_DEPTH} levels")
    for part in parts:
        if reason := _refusal(part):
            raise ArtifactPathRefused(f"{path[:200]!r} is refused: a name {reason}")
    return parts


def _refusal(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "must not be empty, . or .."
    if len(name.encode(errors="replace")) > MAX_NAME_BYTES:
        return f"has at most {MAX_NAME_BYTES} bytes"
    if "\\" in name or not name.isprintable():
        return "must not hold a backslash or a control character"
    return None
