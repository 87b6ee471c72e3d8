"""What a component's container is made of: Python with the light client, or an image of one's own.

`EVERLOOP_KFP_IMAGE` names an image that has everloop and kfp, where pipelines are compiled; nothing is installed then.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

from kfp import dsl

PYTHON = "python:3.12-slim"


def component(extra: str = "") -> Callable[..., Any]:
    """The decorator of a component that needs the client, with one of its extras where it says so."""
    if own := os.environ.get("EVERLOOP_KFP_IMAGE"):
        return dsl.component(base_image=own, install_kfp_package=False)
    package = f"everloop{extra and f'[{extra}]'}=={version('everloop')}"
    return dsl.component(base_image=PYTHON, packages_to_install=[package])
