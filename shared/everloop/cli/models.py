"""The command that submits a model which was trained elsewhere."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import DownloadColumn, Progress, TransferSpeedColumn

from everloop import onnx_wire
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, progress_bar
from everloop.client import Everloop
from everloop.wire import loop_path
from everloop_shared import strict_json

PIECE_BYTES = 256_000
NAME_CHARACTERS = 40
ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model, an ONNX file.")]
Name = Annotated[
    str | None, typer.Option("--name", metavar="NAME", help="Names the model's line. Default: the file's name.")
]
Features = Annotated[
    str | None,
    typer.Option("--features", metavar="A,B,...", help="The columns of a single input, in order. Default: the loop's."),
]
Classes = Annotated[
    str | None,
    typer.Option("--classes", metavar="JSON", help="The classes in the order of the probabilities' columns, a list."),
]
Metrics = Annotated[
    list[str] | None, typer.Option("--metric", metavar="NAME=VALUE", help="A metric of its training; repeat it.")
]
DataSet = Annotated[
    str | None, typer.Option("--data-set", metavar="NAME", help="What it was trained on: LOOP@START..END#REVISION.")
]
Output = Annotated[
    list[str] | None,
    typer.Option("--output", metavar="KIND=NAME", help="Which output is the label, probabilities or value."),
]


def register(app: typer.Typer) -> None:
    """Mount it."""
    app.command("submit", epilog="Example: everloop submit churn forest.onnx --metric auc=0.91")(submit)


def submit(
    loop: Loop,
    file: ModelFile,
    name: Name = None,
    features: Features = None,
    classes: Classes = None,
    metric: Metrics = None,
    data_set: DataSet = None,
    output: Output = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Submit a model that was trained elsewhere: it is tried, and challenges the loop's champion."""
    headers = onnx_wire.manifest_header(
        [feature.strip() for feature in features.split(",")] if features else None,
        _read_classes(classes),
        {key: _number(key, value) for key, value in _pairs("--metric", metric)},
        dict(_pairs("--output", output)),
        name=name or _name_of(file),
        data_set=data_set,
    )
    with Everloop(data) as client, progress_bar(DownloadColumn(), TransferSpeedColumn()) as bar:
        pieces = _Pieces(_read(file), bar)
        sized = {**headers, "content-length": str(pieces.size)}
        response = client.request("registry", "POST", loop_path(loop, "versions"), pieces, onnx_wire.ONNX, sized)
    submitted = onnx_wire.read_submitted(response)
    if as_json:
        print_json(response.json())
    elif submitted.new:
        print_result(f"{submitted.version} challenges; see it with: everloop status {loop}")
    else:
        print_result(f"the same model is registered already, as {submitted.version}")


class _Pieces:
    """A file's bytes in pieces, as often as they are needed; a bar shows what is sent."""

    def __init__(self, content: bytes, bar: Progress) -> None:
        self._content, self.size, self._bar = content, len(content), bar
        self._task = bar.add_task("sending", total=self.size)

    def __iter__(self) -> Iterator[bytes]:
        self._bar.update(self._task, completed=0, description="sending")
        for start in range(0, self.size, PIECE_BYTES):
            yield self._content[start : start + PIECE_BYTES]
            self._bar.update(self._task, completed=min(self.size, start + PIECE_BYTES))
        self._bar.update(self._task, description="the registry tries it")


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as e:
        raise CommandFailed(f"{file} cannot be read: {e.strerror}") from e


def _name_of(file: Path) -> str:
    name = re.sub(r"[^a-z0-9_-]+", "-", file.stem.lower()).strip("-_")[:NAME_CHARACTERS]
    if not name or not name[0].isalpha():
        raise CommandFailed(f"{file.name} makes no name for a line; give one: --name forest")
    return name


def _read_classes(text: str | None) -> list[Any] | None:
    if text is None:
        return None
    try:
        classes = strict_json.read(text.encode())
    except strict_json.NotJson as e:
        raise CommandFailed(f"--classes is {e}") from e
    if not isinstance(classes, list):
        raise CommandFailed("""--classes must be a list, such as '["a", "b"]'""")
    return classes


def _pairs(option: str, given: list[str] | None) -> Iterator[tuple[str, str]]:
    for pair in given or ():
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise CommandFailed(f"{option} {pair}: write it as NAME=VALUE")
        yield key, value


def _number(key: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as e:
        raise CommandFailed(f"--metric {key}={value}: the value must be a number") from e
