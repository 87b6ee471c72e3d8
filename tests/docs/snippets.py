"""Runs the snippets of a page as a reader would: in their order, in one folder, against an installation."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from everloop_schemas.topology import SERVICES

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
RUN = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
"""The languages that are run; a block in another one, such as `text`, is only shown."""
DEFAULT_KAFKA, DEFAULT_GRPC = "127.0.0.1:9092", "127.0.0.1:8015"


@dataclass(frozen=True)
class Snippet:
    """A fenced block of a page."""

    language: str
    text: str

    def run(self, folder: Path, data: Path, seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run it in `folder`, against the installation whose services.json is in `data`, for so long at most."""
        env = {**os.environ, "EVERLOOP_DATA": str(data), "NO_COLOR": "1"}
        env["PATH"] = f"{Path(sys.executable).parent}:{env['PATH']}"
        command = [*RUN[self.language], with_addresses(self.text, json.loads((data / "services.json").read_text()))]
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=seconds, check=False
        )


def snippets(page: Path) -> list[Snippet]:
    """The blocks of a page that are run."""
    return [Snippet(language, text) for language, text in FENCE.findall(page.read_text()) if language in RUN]


def with_addresses(text: str, services: dict[str, Any]) -> str:
    """The text with the addresses of this installation in place of the default ones."""
    for name, service in SERVICES.items():
        text = text.replace(f"127.0.0.1:{service.port}", services[name]["url"].removeprefix("http://"))
    text = text.replace(DEFAULT_GRPC, str(services["serving"].get("grpc", DEFAULT_GRPC)))
    return text.replace(DEFAULT_KAFKA, str(services["kafka"].get("bootstrap", DEFAULT_KAFKA)))
