"""The wheels of this repository's distributions, built from the clone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BUILD_S = 120


def build_wheel(source: Path, folder: Path) -> Path:
    """The wheel of the distribution in `source`, built into a folder of its own."""
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=BUILD_S)
    [built] = folder.glob("*.whl")
    return built
