"""Writes schemas/openapi: the documents of the services that applications call, from which clients are generated."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from tests.http_apps import http_app

from everloop.memory_bus.app import build
from everloop_schemas.topology import SERVICES

FOLDER = Path(__file__).resolve().parents[2] / "schemas" / "openapi"
WRITTEN = ("ingest", "serving")


def build_documents(folder: Path) -> dict[str, dict[str, Any]]:
    """The document of each service of a local installation in this folder, by the service's name."""
    services = build(folder, dict.fromkeys([*SERVICES, "topics"], 0), {})
    return {service.name: http_app(service).openapi() for service in services}


def to_json(document: dict[str, Any]) -> str:
    """The document as it is committed."""
    return json.dumps(document, indent=2) + "\n"


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        documents = build_documents(Path(made))
    FOLDER.mkdir(exist_ok=True)
    for name in WRITTEN:
        (FOLDER / f"{name}.json").write_text(to_json(documents[name]))
