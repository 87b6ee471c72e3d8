"""Writes schemas/json from the classes; `--check` reports what is stale or incompatible there."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

from everloop_schemas.asyncapi import build_document, to_yaml
from everloop_schemas.catalogue import CLASSES, TOPICS
from everloop_schemas.compatibility import find_incompatibilities
from everloop_schemas.json_schema import build_schema
from everloop_schemas.lineage_facets import FACETS, build_facet_schema
from everloop_schemas.loop import LoopSpec

FOLDER = Path(__file__).resolve().parent.parent / "json"
DIALECT = "https://json-schema.org/draft/2020-12/schema"
LOOP_FILE = "loop.json"
ASYNCAPI_FILE = "asyncapi.yaml"


@cache
def build_schemas() -> dict[str, dict[str, Any]]:
    """JSON Schemas by file name: one per event type, one per facet of lineage, and that of the loop spec."""
    found = {f"{name}.json": build_schema(cls) for name, cls in CLASSES.items()}
    found |= {facet.file(): build_facet_schema(facet) for facet in FACETS}
    found[LOOP_FILE] = LoopSpec.model_json_schema()
    return {file: {"$schema": DIALECT, "$id": file, **schema} for file, schema in sorted(found.items())}


@cache
def build_files() -> dict[str, str]:
    """Everything that belongs into the folder, by file name."""
    written = {file: json.dumps(schema, indent=2) + "\n" for file, schema in build_schemas().items()}
    written[ASYNCAPI_FILE] = to_yaml(build_document(CLASSES, TOPICS))
    return written


def write(folder: Path) -> list[str]:
    """Bring the folder up to date; returns the names of what changed."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted, changed = build_files(), []
    for old in folder.iterdir():
        if old.is_file() and old.name not in wanted:
            old.unlink()
            changed.append(old.name)
    for name, text in wanted.items():
        path = folder / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
            changed.append(name)
    return sorted(changed)


def find_stale(folder: Path) -> list[str]:
    """The names of files that differ from the classes, are missing, or should not be there."""
    wanted = build_files()
    there = {path.name: path.read_text() for path in folder.iterdir() if path.is_file()} if folder.exists() else {}
    return sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))


def find_breaking_changes(baseline: dict[str, dict[str, Any]]) -> list[str]:
    """What changed incompatibly since the baseline, one sentence each."""
    now, found = build_schemas(), []
    for file, old in sorted(baseline.items()):
        if file not in now:
            found.append(f"{file}: removed")
            continue
        found += [f"{file}: {problem}" for problem in find_incompatibilities(old, now[file])]
    return found


def read_committed(folder: Path, revision: str) -> dict[str, dict[str, Any]]:
    """The JSON Schemas as a git revision has them; none without git, or where it has none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(folder), *arguments]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        except OSError:
            return ""
        return done.stdout if done.returncode == 0 else ""

    names = [name for name in git("ls-tree", "--name-only", revision, "./").split() if name.endswith(".json")]
    return {Path(name).name: json.loads(git("show", f"{revision}:./{name}")) for name in names}


def main(arguments: list[str] | None = None, folder: Path = FOLDER) -> int:
    """The command line; exit status 1 when the check finds something."""
    parser = argparse.ArgumentParser(prog="python -m everloop_schemas.generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 when stale or incompatible")
    parser.add_argument("--against", default="HEAD", metavar="REVISION", help="git revision to be compatible with")
    options = parser.parse_args(arguments)
    if not options.check:
        sys.stdout.writelines(f"wrote {name}\n" for name in write(folder))
        return 0
    problems = [f"{folder.name}/{name} is stale: run `make schemas` and commit it" for name in find_stale(folder)]
    problems += [
        f"incompatible with {options.against}: {problem}; make a new class on a .v2 topic instead"
        for problem in find_breaking_changes(read_committed(folder, options.against))
    ]
    sys.stdout.writelines(f"{line}\n" for line in problems)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
