"""The loop files that a command is given: files, and folders of them."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.output import CommandFailed
from everloop.loop_files import LoopFile

SUFFIXES = (".yaml", ".yml")
MAX_FILES = 1_000
Files = Annotated[
    list[Path],
    typer.Option(
        "--file",
        "-f",
        metavar="FILE",
        help="A loop file, or a folder: its .yaml and .yml files. Can be repeated; - is standard input.",
    ),
]


def read_given(file: Path) -> LoopFile:
    """The file, or the text on standard input where it is `-`; raises CommandFailed."""
    if str(file) != "-":
        return file
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as e:
        raise CommandFailed("standard input is no text in UTF-8") from e


def find_loop_files(given: Iterable[Path]) -> list[Path]:
    """Each file once, those of a folder by name. Raises CommandFailed for a folder without any, or too many."""
    found = dict[Path, None]()
    for path in given:
        if not path.is_dir():
            found[path] = None
            continue
        inside = sorted(file for file in path.iterdir() if file.suffix in SUFFIXES and file.is_file())
        if not inside:
            raise CommandFailed(f"{path} has no loop file; their names end with .yaml or .yml")
        found |= dict.fromkeys(inside)
    if len(found) > MAX_FILES:
        raise CommandFailed(f"{len(found):,} files are too many at once; the limit is {MAX_FILES:,}")
    return list(found)
