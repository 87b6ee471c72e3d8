"""The environment of processes that train, so that they come to the same result each time."""

from __future__ import annotations

import os

DRIVER_S = 420.0
"""What the driver of a Ray cluster may take beside its calls: to connect, to store files, and to wait for workers."""
SAME_EACH_TIME = {"MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def ray_variables() -> dict[str, str]:
    """What Ray reads, such as RAY_ADDRESS and RAY_AUTH_TOKEN, for a process that drives a cluster."""
    return {name: value for name, value in os.environ.items() if name.startswith("RAY_")}
