"""The rows of a CSV file as events and labels of a loop."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import uuid5

from everloop.replay import coerce
from everloop_schemas.envelope import NAMESPACE, Scalar
from everloop_schemas.loop import LoopSpec

Errors = list[tuple[str, str]]


class FileUnusable(Exception):
    """The file cannot be played at all; the message says why and what to do."""


@dataclass(frozen=True)
class Columns:
    """Which columns mean something beside the fields; None where the file has no such column."""

    label: str | None = None
    entity: str | None = None
    id: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Row:
    """Row `number` (the first after the header is 1) as an event, with the label that belongs to it, if any.

    `wrong` says why the row cannot be sent, `wrong_label` why its label cannot. `key` names the row of this file, so
    that its label is the same event when the file is played again.
    """

    number: int
    event: dict[str, Any]
    key: str
    label: Scalar | None = None
    wrong: Errors = field(default_factory=list)
    wrong_label: Errors = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """A CSV file, plain or compressed with gzip, whose content is known by its digest."""

    path: Path
    digest: str
    lines: int

    @classmethod
    def of(cls, path: Path) -> Source:
        """Read it once, for its digest (of the plain content) and length. Raises FileUnusable."""
        digest, lines = hashlib.sha256(), 0
        try:
            with _binary(path) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    lines += chunk.count(b"\n")
        except (OSError, EOFError) as e:
            reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            raise FileUnusable(f"{path} cannot be read: {reason}") from e
        return cls(path, digest.hexdigest(), lines)

    def rows(self, spec: LoopSpec, columns: Columns, skip: int = 0, limit: int | None = None) -> Iterator[Row]:
        """The rows after `skip`, at most `limit`. Raises FileUnusable for a header that lacks a column."""
        with io.TextIOWrapper(_binary(self.path), "utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            try:
                header = next(reader, [])
                _check(self.path, header, spec, columns)
                stop = None if limit is None else skip + limit
                for number, cells in islice(enumerate(filter(None, reader), 1), skip, stop):
                    yield _row(number, header, cells, spec, columns, f"{spec.loop}/{self.digest}/{number}")
            except UnicodeDecodeError as e:
                raise FileUnusable(f"{self.path} is no text in UTF-8: {e}") from e
            except csv.Error as e:
                raise FileUnusable(f"{self.path}, line {reader.line_num}: {e}") from e


def _binary(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _check(path: Path, header: list[str], spec: LoopSpec, columns: Columns) -> None:
    needed = [name for name, field in spec.fields.items() if field.missing == "refuse"]
    asked = [c for c in (columns.label, columns.entity, columns.id, columns.time) if c is not None]
    missing = [c for c in (*needed, *asked) if c not in header]
    if missing:
        raise FileUnusable(
            f"{path} has no column {', '.join(missing)}; its columns are {', '.join(header[:50]) or 'none'}"
        )
    if len(set(header)) < len(header):
        twice = next(c for c in header if header.count(c) > 1)
        raise FileUnusable(f"{path} has the column {twice!r} twice")


def _row(number: int, header: list[str], cells: list[str], spec: LoopSpec, columns: Columns, name: str) -> Row:
    key = str(uuid5(NAMESPACE, name))
    if len(cells) != len(header):
        wrong = [("row", f"has {len(cells)} values, the header has {len(header)}")]
        return Row(number, {"id": key}, key, wrong=wrong)
    cell = dict(zip(header, cells, strict=True))
    data, wrong = _data(cell, spec)
    event: dict[str, Any] = {"id": cell[columns.id] if columns.id else key}
    if columns.entity:
        event["entity"] = cell[columns.entity]
    if columns.time:
        event["time"] = _timed(cell[columns.time])
    label, wrong_label = _label(cell, spec, columns)
    return Row(number, event | {"data": data}, key, label, wrong, wrong_label)


def _data(cell: dict[str, str], spec: LoopSpec) -> tuple[dict[str, Scalar | None], Errors]:
    data: dict[str, Scalar | None] = {}
    wrong: Errors = []
    for name, known in spec.fields.items():
        try:
            data[name] = coerce.value(known, cell.get(name, ""))
        except ValueError as e:
            wrong.append((f"data.{name}", str(e)))
    return data, wrong


def _timed(text: str) -> str:
    """RFC 3339 from what CSV files hold: a space for the T, and UTC where no zone is given."""
    text = text.strip().replace(" ", "T", 1)
    zoned = text.endswith(("Z", "z")) or "+" in text[10:] or "-" in text[10:]
    return text if zoned else f"{text}Z" if "T" in text else f"{text}T00:00:00Z"


def _label(cell: dict[str, str], spec: LoopSpec, columns: Columns) -> tuple[Scalar | None, Errors]:
    if columns.label is None:
        return None, []
    try:
        return coerce.label(spec, cell[columns.label]), []
    except ValueError as e:
        return None, [(columns.label, str(e))]
