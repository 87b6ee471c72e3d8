"""The environment of processes that train, so that they come to the same result each time."""

from __future__ import annotations

import os

from everloop_shared.limited import child_environment

DRIVER_S = 420.0
"""What the driver of a Ray cluster may take beside its calls: to connect, to store files, and to wait for workers."""
SAME_EACH_TIME = {"MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def training_environment(drives_ray: bool = False) -> dict[str, str]:
    """The environment of a process that trains; one that drives a cluster has what Ray reads, RAY_AUTH_TOKEN say."""
    of_ray = {name: value for name, value in os.environ.items() if drives_ray and name.startswith("RAY_")}
    return {**child_environment(), **SAME_EACH_TIME, **of_ray}
