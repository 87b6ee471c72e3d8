"""The way in for models that were trained elsewhere: made fit for their loop in a child process, tried, and stored."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from everloop_models.artifact import Artifact
from everloop_models.errors import ArtifactCorrupt, ModelBroken
from everloop_models.first_load import LOAD_MEMORY_BYTES, LOAD_TIMEOUT_S, PRELOADED_MODULES, try_model
from everloop_models.formats import library_versions, load
from everloop_models.formats.onnx.interface import GivenInterface
from everloop_models.seals import UNSEALED, Seals
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.training import StoredModel
from everloop_shared.errors import FieldError, InputRejected
from everloop_shared.limited import ChildFailed, Limited, LimitExceeded

FORMAT = "onnx"
MAX_WAITING_MODELS = 20


class ModelRefused(InputRejected):
    """A model that came in cannot be served on its loop; the detail says why, and what to do."""

    title = "Model refused"

    def __init__(self, detail: str) -> None:
        super().__init__(f"model: {detail}", [FieldError("model", detail)])


class FeatureNames(Protocol):
    """The features that a loop has."""

    @property
    def names(self) -> Sequence[str]:
        """All of them, in order."""

    @property
    def texts(self) -> Collection[str]:
        """Those that are text."""


class CheckedModel(NamedTuple):
    """A model that can be served, with its interface in the file, and what a manifest says of it."""

    data: bytes
    sha256: str
    signature: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opset: int
    libraries: dict[str, str]

    @property
    def stored(self) -> dict[str, Any]:
        """What a StoredModel says of it beside its URI."""
        return {"sha256": self.sha256, "size": len(self.data), "format": FORMAT, "signature": self.signature}


class ModelIntake:
    """Checks ONNX files in a child process, one at a time, and stores and seals those that pass.

    The process is started for the first file: it needs memory, and many installations get none.
    """

    def __init__(self, store: ArtifactStore, max_bytes: int, seals: Seals = UNSEALED) -> None:
        self._store, self._max_bytes, self._seals = store, max_bytes, seals
        self._child = Limited(
            preload=PRELOADED_MODULES,
            memory_bytes=LOAD_MEMORY_BYTES,
            seconds=LOAD_TIMEOUT_S,
            waiting=MAX_WAITING_MODELS,
            result_bytes=max_bytes,
        )

    async def __aenter__(self) -> ModelIntake:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._child.__aexit__(*exc)

    async def check(
        self,
        data: bytes,
        given: GivenInterface,
        spec: LoopSpec,
        features: FeatureNames,
        samples: Sequence[Fields],
        weights: Mapping[str, bytes] | None = None,
    ) -> CheckedModel:
        """The model in these bytes as it can be served on a loop with these `features`, tried on `samples`.

        `weights` are the files beside it, by name, of which it may need some. Raises ModelRefused, or Overloaded where
        too many models wait already.
        """
        if len(data) > self._max_bytes:
            raise ModelRefused(f"it has {len(data):,} bytes; at most {self._max_bytes:,} are served")
        wire = spec.model_dump_json(exclude_none=True, by_alias=True)
        try:
            said, kept, rest = await self._child.run(
                prepare,
                data,
                given,
                wire,
                [*features.names],
                [*features.texts],
                [*samples],
                dict(weights or {}),
                self._max_bytes,
            )
        except (ArtifactCorrupt, ModelBroken, LimitExceeded) as e:
            raise ModelRefused(e.detail) from e
        except ChildFailed as e:
            raise ModelRefused(f"it cannot be tried: {str(e)[-300:]}") from e
        whole = await asyncio.to_thread(lambda: Artifact.of(data[:kept] + rest))
        return CheckedModel(
            whole.data,
            whole.sha256,
            tuple(said["signature"]),
            tuple(said["inputs"]),
            tuple(said["outputs"]),
            said["opset"],
            said["libraries"],
        )

    async def put(self, loop: str, version: str, model: CheckedModel) -> StoredModel:
        """Store a checked model under a version's name; idempotent. Raises ArtifactUnavailable."""
        name = self._store.name(loop, version, model.sha256, FORMAT)
        uri = await asyncio.to_thread(self._store.put, name, model.data)
        return StoredModel(uri=uri, seal=self._seals.make(name, model.sha256), **model.stored)


def prepare(
    data: bytes,
    given: GivenInterface,
    spec_wire: str,
    names: list[str],
    texts: list[str],
    samples: list[Fields],
    weights: dict[str, bytes],
    most: int,
) -> tuple[dict[str, Any], int, bytes]:
    """In the child: normalise and try a model. Returns what a manifest says, and the bytes that its file has after the
    first so many, which are as they came.
    """
    # Imported here, as only the child reads ONNX files: the services start half a second sooner and need 20 MB less.
    from everloop_models.formats.onnx.external_data import with_weights
    from everloop_models.formats.onnx.normalise import normalise

    spec = LoopSpec.model_validate_json(spec_wire)
    whole = with_weights(data, weights, most) if weights else data
    model = normalise(whole, spec, names, {*texts}, given)
    try_model(load(model.data, FORMAT), samples)
    kept = _shared_bytes(memoryview(data), memoryview(model.data))
    said = {
        "signature": model.interface.signature,
        "inputs": model.interface.input_names,
        "outputs": model.interface.output_names,
        "opset": model.interface.opset,
        "libraries": library_versions(FORMAT),
    }
    return said, kept, model.data[kept:]


def _shared_bytes(a: memoryview, b: memoryview) -> int:
    """How many first bytes are the same."""
    same, most = 0, min(len(a), len(b))
    while same < most:
        middle = (same + most + 1) // 2
        if a[same:middle] == b[same:middle]:
            same = middle
        else:
            most = middle - 1
    return same
