"""The image that holds a pod's network open, written without a registry."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

NAME = "everloop.io/rig/pause:1"


def write_sandbox_image(program: Path, tar: Path) -> None:
    """An image of this one static program, in the form that `docker save` writes."""
    layer = _tar({"pause": program.read_bytes()})
    config = json.dumps(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Entrypoint": ["/pause"], "User": "65535:65535"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    manifest = json.dumps([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]).encode()
    tar.write_bytes(_tar({"layer.tar": layer, "config.json": config, "manifest.json": manifest}))


def _tar(files: dict[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as tar:
        for name, content in files.items():
            about = tarfile.TarInfo(name)
            about.size, about.mode = len(content), 0o755
            tar.addfile(about, io.BytesIO(content))
    return written.getvalue()
