"""The rows of a CSV file as events and labels of a loop."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any
from uuid import uuid5

from everloop.replay import coerce
from everloop_schemas.envelope import NAMESPACE, Scalar
from everloop_schemas.loop import LoopSpec

Errors = list[tuple[str, str]]


class FileUnusable(Exception):
    """The file cannot be played; the message has the reason and the fix."""


@dataclass(frozen=True)
class Columns:
    """The columns with label, entity, id and time; None where the file has no such column."""

    label: str | None = None
    entity: str | None = None
    id: str | None = None
    time: str | None = None


@dataclass(frozen=True)
class Row:
    """Row `number` (the first after the header is 1) as an event, with the label that belongs to it, if any.

    `wrong` are the reasons why the row cannot be sent, `wrong_label` those for its label. `key` identifies the row of
    this file, so that its label is the same event when the file is played again.
    """

    number: int
    event: dict[str, Any]
    key: str
    label: Scalar | None = None
    wrong: Errors = field(default_factory=list)
    wrong_label: Errors = field(default_factory=list)


@dataclass(frozen=True)
class CsvFile:
    """A CSV file, plain or compressed with gzip, identified by the digest of its content."""

    path: Path
    digest: str
    lines: int

    @classmethod
    def of(cls, path: Path) -> CsvFile:
        """Read it once, for its digest (of the plain content) and length. Raises FileUnusable."""
        digest, lines = hashlib.sha256(), 0
        try:
            with _binary(path) as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
                    if b"\0" in chunk:
                        raise FileUnusable(f"{path} is no text in UTF-8: it holds NUL bytes")
                    lines += chunk.count(b"\n")
        except (OSError, EOFError, zlib.error) as e:
            reason = e.strerror if isinstance(e, OSError) and e.strerror else str(e)
            raise FileUnusable(f"{path} cannot be read: {reason}") from e
        return cls(path, digest.hexdigest(), lines)

    def missing_fields(self, spec: LoopSpec, columns: Columns) -> list[str]:
        """The optional fields without a column, which are missing in every row. Raises FileUnusable."""
        with io.TextIOWrapper(_binary(self.path), "utf-8-sig", newline="") as file:
            try:
                header = next(csv.reader(file, strict=True), [])
            except (UnicodeDecodeError, csv.Error) as e:
                raise FileUnusable(f"{self.path}, the first line: {e}") from e
        _check(self.path, header, spec, columns)
        return [name for name, field_spec in spec.fields.items() if field_spec.missing == "null" and name not in header]

    def rows(self, spec: LoopSpec, columns: Columns, skip: int = 0, limit: int | None = None) -> Iterator[Row]:
        """The rows after `skip`, at most `limit`. Raises FileUnusable for a header that lacks a column."""
        with io.TextIOWrapper(_binary(self.path), "utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)  # else an unclosed quote swallows the rest of the file
            try:
                header = next(reader, [])
                _check(self.path, header, spec, columns)
                stop = None if limit is None else skip + limit
                ids: dict[int, int] = {}
                for number, cells in islice(enumerate(filter(None, reader), 1), skip, stop):
                    row = _row(number, header, cells, spec, columns, f"{spec.loop}/{self.digest}/{number}")
                    yield _refuse_repeat(row, ids) if columns.id else row
            except UnicodeDecodeError as e:
                raise FileUnusable(f"{self.path} is no text in UTF-8: {e}") from e
            except csv.Error as e:
                raise FileUnusable(f"{self.path}, line {reader.line_num}: {e}") from e


def _binary(path: Path) -> IO[bytes]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    return gzip.GzipFile(path) if compressed else path.open("rb")  # type: ignore[return-value]


def _check(path: Path, header: list[str], spec: LoopSpec, columns: Columns) -> None:
    """Raise FileUnusable where the header lacks a column, has one twice, or one that is nearly a field's name."""
    if not header:
        raise FileUnusable(f"{path} is empty; the first line names the columns, such as {','.join(spec.fields)[:200]}")
    if len(header) == 1 and (mark := next((m for m in ";\t|" if m in header[0]), None)):
        raise FileUnusable(f"{path} is separated by {mark!r}; separate its columns by commas")
    if len(set(header)) < len(header):
        twice = next(c for c in header if header.count(c) > 1)
        raise FileUnusable(f"{path} has the column {twice[:80]!r} twice")
    asked = [c for c in (columns.label, columns.entity, columns.id, columns.time) if c is not None]
    absent = [c for c in dict.fromkeys((*spec.fields, *asked)) if c not in header]
    likely = {c: _nearly(c, [h for h in header if h not in spec.fields and h not in asked]) for c in absent}
    needed = [c for c in absent if c in asked or spec.fields[c].missing == "refuse"]
    if wrong := [c for c in absent if c in needed or likely[c]]:
        named = ", ".join(f"{c} (but {likely[c]!r}: rename it)" if likely[c] else c for c in wrong[:50])
        raise FileUnusable(f"{path} has no column {named}; its columns are {', '.join(header)[:1000]}")


def _nearly(name: str, others: list[str]) -> str | None:
    """The column that only case, white space or punctuation keeps from this name."""
    return next((o for o in others if _bare(o) == _bare(name)), None)


def _bare(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _refuse_repeat(row: Row, ids: dict[int, int]) -> Row:
    """The row, refused where an earlier one has its id; `ids` maps hashes of ids to their rows."""
    before = ids.setdefault(hash(row.event["id"]), row.number)
    if before == row.number:
        return row
    return replace(
        row,
        wrong=[*row.wrong, ("id", f"{row.event['id'][:80]!r} is the id of row {before} too; give each row its own")],
    )


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
        event["time"] = to_rfc3339(cell[columns.time])
    label, wrong_label = _label(cell, spec, columns)
    return Row(number, event | {"data": data}, key, label, wrong, wrong_label)


def _data(cell: dict[str, str], spec: LoopSpec) -> tuple[dict[str, Scalar | None], Errors]:
    data: dict[str, Scalar | None] = {}
    wrong: Errors = []
    for name, field_spec in spec.fields.items():
        try:
            data[name] = coerce.value(field_spec, cell.get(name, ""))
        except ValueError as e:
            wrong.append((f"data.{name}", str(e)))
    return data, wrong


def to_rfc3339(text: str) -> str:
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
