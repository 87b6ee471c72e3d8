"""The model format `river`: builds, stores and loads River models; the functions are those of `ModelFormat`."""

from __future__ import annotations

import io
import pickle
from random import Random
from typing import Any

from river import multiclass
from river.proba.base import Distribution

from everloop_models import pickling
from everloop_models.errors import ArtifactCorrupt
from everloop_models.formats.river.allow_list import ALLOWED
from everloop_models.formats.river.estimators import build, check_parameters
from everloop_models.formats.river.model import RiverModel
from everloop_models.model import Model, OnlineModel

__all__ = ["ALLOWED", "LIBRARIES", "build", "check", "check_parameters", "is_learned_per_class", "load", "save"]

LIBRARIES: tuple[str, ...] = ("river", "numpy", "scipy")
"""River's pickles do not survive other versions of these."""
_UNUSED = Random(0)


def save(model: Model) -> bytes:
    """The model's pickle; equal models have equal bytes."""
    file = io.BytesIO()
    _CanonicalPickler(file, protocol=5).dump(model)
    return file.getvalue()


def check(data: bytes) -> None:
    """Raises ArtifactCorrupt unless the pickle does only what those of River models do; unpickles nothing."""
    pickling.check(data, ALLOWED)


def load(data: bytes) -> OnlineModel:
    """The model in bytes that `check` has passed; raises ArtifactCorrupt."""
    model = pickling.unpickled(data, ALLOWED)
    if not isinstance(model, RiverModel):
        raise ArtifactCorrupt(f"the artifact holds a {type(model).__name__}, not a model")
    return model


def is_learned_per_class(model: Model) -> bool:
    """Whether predicting and learning take the more time the more classes there are."""
    return isinstance(model, RiverModel) and isinstance(model.estimator, multiclass.OneVsRestClassifier)


class _CanonicalPickler(pickle.Pickler):
    """Normalises state that predictions do not depend on, so that equal models pickle to equal bytes."""

    def reducer_override(self, obj: Any) -> Any:
        """A distribution holds a generator with a random seed to draw samples; models only ask it for densities."""
        if isinstance(obj, Distribution) and obj.seed is None:
            reduced: tuple[Any, ...] = tuple(obj.__reduce_ex__(5))
            return *reduced[:2], {**reduced[2], "_rng": _UNUSED}, *reduced[3:]
        return NotImplemented
