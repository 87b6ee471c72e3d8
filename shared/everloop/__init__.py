"""Everloop's client: publish observations, ask for predictions, and send labels and feedback.

>>> from everloop import Everloop
>>> with Everloop() as everloop:  # the local installation, or the one that EVERLOOP_<SERVICE>_URL names
...     answer = everloop.predict("market", {"price": 3.0}, id="order-17")
...     labelled = everloop.label("market", "order-17", True)
>>> answer.prediction, labelled.accepted
(True, 1)

What is in `__all__` is the public API; everything else may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everloop.async_client import AsyncEverloop
    from everloop.client import Everloop
    from everloop.data_sets import DataSet, DataSetDamaged
    from everloop.errors import (
        EverloopError,
        EverloopHTTPError,
        EverloopUnreachable,
        LoopFileInvalid,
        LoopNameInvalid,
        LoopNotUsedYet,
    )
    from everloop.local.errors import InstallationNotFound
    from everloop.loop_files import Applied
    from everloop.results import Accepted, Explanation, Prediction, RejectedEntry, Submitted
    from everloop.searches import Search, Trial
    from everloop.trainers import Answered, TrainerRun, trainer

    __version__: str

_MODULES = {
    "Accepted": "everloop.results",
    "Answered": "everloop.trainers",
    "Applied": "everloop.loop_files",
    "AsyncEverloop": "everloop.async_client",
    "DataSet": "everloop.data_sets",
    "DataSetDamaged": "everloop.data_sets",
    "Everloop": "everloop.client",
    "EverloopError": "everloop.errors",
    "EverloopHTTPError": "everloop.errors",
    "EverloopUnreachable": "everloop.errors",
    "Explanation": "everloop.results",
    "InstallationNotFound": "everloop.local.errors",
    "LoopFileInvalid": "everloop.errors",
    "LoopNameInvalid": "everloop.errors",
    "LoopNotUsedYet": "everloop.errors",
    "Prediction": "everloop.results",
    "RejectedEntry": "everloop.results",
    "Search": "everloop.searches",
    "Submitted": "everloop.results",
    "Trial": "everloop.searches",
    "TrainerRun": "everloop.trainers",
    "trainer": "everloop.trainers",
}

__all__ = [
    "Accepted",
    "Answered",
    "Applied",
    "AsyncEverloop",
    "DataSet",
    "DataSetDamaged",
    "Everloop",
    "EverloopError",
    "EverloopHTTPError",
    "EverloopUnreachable",
    "Explanation",
    "InstallationNotFound",
    "LoopFileInvalid",
    "LoopNameInvalid",
    "LoopNotUsedYet",
    "Prediction",
    "RejectedEntry",
    "Search",
    "Submitted",
    "TrainerRun",
    "Trial",
    "__version__",
    "trainer",
]


def __getattr__(name: str) -> Any:
    # On first use, so that the supervisor starts without an HTTP client.
    from importlib import import_module, metadata

    if name == "__version__":
        return metadata.version("everloop")
    if name in _MODULES:
        return getattr(import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'everloop' has no attribute {name!r}")
