"""Generates the messages of gRPC from their .proto files; `--check` says which of the committed files differ.

The only change to what protoc writes: the messages are registered in a pool of their own. In the default pool they
could not be beside those of a stock client, which have the same names.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "services/serving/everloop_serving/api/open_inference_grpc/protocol"


def generate() -> dict[str, str]:
    """The generated files by name."""
    sources = [str(path) for path in sorted(FOLDER.glob("*.proto"))]
    with tempfile.TemporaryDirectory() as out:
        protoc = [sys.executable, "-m", "grpc_tools.protoc", f"-I{FOLDER}", f"--python_out={out}", f"--pyi_out={out}"]
        subprocess.run([*protoc, *sources], check=True)
        texts = {path.name: path.read_text() for path in Path(out).iterdir()}
    return {name: text.replace("pool.Default()", "pool.DescriptorPool()") for name, text in texts.items()}


def find_stale() -> list[str]:
    """The names of files that differ from what is generated, or should not be there."""
    wanted = generate()
    there = {path.name: path.read_text() for path in FOLDER.glob("*_pb2*.py*")}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(f"differ from their .proto: {', '.join(stale)}; run make schemas" if (stale := find_stale()) else 0)
    for name, text in generate().items():
        (FOLDER / name).write_text(text)
