"""Playing a file: which rows and labels are sent, in which order, at which rate, and through which errors."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everloop.errors import EverloopHTTPError
from everloop.replay.player import ROWS_BEFORE_LABELS, Player
from everloop.replay.rows import Columns, CsvFile, Errors, FileUnusable, Row
from everloop.results import Accepted, RejectedEntry
from everloop_schemas.loop import LoopSpec

SPEC = LoopSpec.model_validate(
    {
        "loop": "market",
        "task": "binary",
        "schema": {
            "price": {"type": "number"},
            "count": {"type": "integer", "missing": None},
            "open": {"type": "boolean", "missing": None},
            "name": {"type": "string", "missing": None},
        },
    }
)


@dataclass
class RecordingSender:
    """A sender that keeps what was sent, one entry after the other, and refuses the entries of `bad`."""

    bad: frozenset[str] = frozenset()
    most: int = 10_000
    sent: list[str] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    requests: list[int] = field(default_factory=list)

    async def publish(self, loop: str, data: Sequence[dict[str, Any]]) -> Accepted:
        """Take rows."""
        return await self._take("row", data)

    async def label(self, loop: str, id: Sequence[dict[str, Any]]) -> Accepted:
        """Take labels."""
        self.labels += id
        return await self._take("label", id)

    async def _take(self, what: str, entries: Sequence[dict[str, Any]]) -> Accepted:
        if len(entries) > self.most:
            raise EverloopHTTPError(413, "Content too large", "send less")
        await asyncio.sleep(0)
        self.requests.append(len(entries))
        bad = tuple(RejectedEntry(i, e["id"], (("data", "bad"),)) for i, e in enumerate(entries) if e["id"] in self.bad)
        good = tuple(e["id"] for e in entries if e["id"] not in self.bad)
        self.sent += [f"{what} {i}" for i in good]
        if not good:
            raise EverloopHTTPError(422, "Unprocessable input", "bad", rejected=bad)
        return Accepted(good, bad)


def rows(n: int) -> Iterator[Row]:
    """Rows called 0, 1, 2 ..., each with a label."""
    return (Row(i + 1, {"id": str(i), "data": {}}, f"k{i}", label=True) for i in range(n))


@given(n=st.integers(0, 40), delay=st.integers(1, 12), bad=st.frozensets(st.integers(0, 39), max_size=4))
@settings(max_examples=60, deadline=None)
async def test_a_label_goes_after_its_row_was_accepted_and_before_the_row_so_many_later(
    n: int, delay: int, bad: frozenset[int]
) -> None:
    sender = RecordingSender(bad=frozenset(map(str, bad)))

    played = await Player("market", sender, label_delay=delay).play(rows(n))

    good = [i for i in range(n) if i not in bad]
    assert [s for s in sender.sent if s.startswith("row")] == [f"row {i}" for i in good]
    assert [s for s in sender.sent if s.startswith("label")] == [f"label {i}" for i in good]
    for i in good:
        assert sender.sent.index(f"row {i}") < sender.sent.index(f"label {i}")
        later = next((f"row {j}" for j in good if j >= i + delay), None)
        assert later is None or sender.sent.index(f"label {i}") < sender.sent.index(later)
    assert (played.sent, played.accepted, played.rejected, played.labels) == (n, len(good), n - len(good), len(good))


async def test_without_a_delay_labels_follow_their_batch_and_every_row_is_sent_in_order() -> None:
    sender = RecordingSender()

    await Player("market", sender).play(rows(ROWS_BEFORE_LABELS + 50))

    first, second = range(ROWS_BEFORE_LABELS), range(ROWS_BEFORE_LABELS, ROWS_BEFORE_LABELS + 50)
    assert sender.sent == [f"{what} {i}" for batch in (first, second) for what in ("row", "label") for i in batch]
    assert sender.requests == [len(first), len(first), len(second), len(second)]


@pytest.mark.parametrize(("rate", "n", "delay"), [(1_000.0, 400, 50), (200.0, 60, 1), (1_000.0, 400, None)])
async def test_the_rate_is_reached_and_kept(rate: float, n: int, delay: int | None) -> None:
    clock = asyncio.get_running_loop().time
    started = clock()

    await Player("market", RecordingSender(), label_delay=delay, rate=rate).play(rows(n))

    assert n / rate * 0.8 < clock() - started < n / rate * 1.6 + 0.2


async def test_a_request_that_is_too_large_is_cut_in_two() -> None:
    sender = RecordingSender(most=10, bad=frozenset({"33"}))
    refused: list[int] = []

    player = Player("market", sender, label_delay=40, on_refused=lambda number, errors: refused.append(number))
    played = await player.play(rows(40))

    assert max(sender.requests) <= 10
    assert (played.accepted, refused) == (39, [34])


class Slow:
    """Outcomes that come one after the other."""

    def __init__(self, sender: RecordingSender) -> None:
        self._sender = sender

    async def wait(self, prediction_id: str) -> None:
        """Note that the outcome was waited for."""
        self._sender.sent.append(f"outcome {prediction_id}")


async def test_in_lockstep_each_outcome_is_waited_for_before_the_next_row() -> None:
    sender = RecordingSender()

    await Player("market", sender, outcomes=Slow(sender)).play(rows(3))

    assert sender.sent == [f"{what} {i}" for i in range(3) for what in ("row", "label", "outcome")]


def written(folder: Path, text: str, name: str = "rows.csv") -> Path:
    """A file."""
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def read(path: Path, columns: Columns, spec: LoopSpec = SPEC, **which: int) -> list[Row]:
    """All its rows."""
    return list(CsvFile.of(path).rows(spec, columns, **which))


def test_text_becomes_values_of_the_schema_and_ids_come_from_content_and_row(tmp_path: Path) -> None:
    text = "price,count,open,name,class,extra\n1.5,3,yes,,UP,x\n2,,0,b,0,\n\n-1e3,4.0,,c,,z\n"
    columns = Columns(label="class")

    plain = read(written(tmp_path, text), columns)
    packed = read(written(tmp_path, text, "other.csv.gz"), columns)
    part = read(written(tmp_path, text), columns, skip=1, limit=1)

    assert [r.event["data"] for r in plain] == [
        {"price": 1.5, "count": 3, "open": True, "name": None},
        {"price": 2.0, "count": None, "open": False, "name": "b"},
        {"price": -1000.0, "count": 4, "open": None, "name": "c"},
    ]
    assert [r.label for r in plain] == [True, False, None]
    assert plain == packed
    assert part == plain[1:2]
    assert len({r.event["id"] for r in plain}) == 3


def test_columns_name_id_entity_and_time(tmp_path: Path) -> None:
    path = written(
        tmp_path, "price,who,when,key\n1,shop-3,1996-05-07 00:30:00,k1\n2,shop-3,2024-05-01T12:00:00+02:00,k2\n"
    )

    [first, second] = read(path, Columns(entity="who", id="key", time="when"))

    assert (first.event["id"], first.event["entity"], first.event["time"]) == ("k1", "shop-3", "1996-05-07T00:30:00Z")
    assert second.event["time"] == "2024-05-01T12:00:00+02:00"


def test_a_row_that_does_not_fit_has_the_reason_and_the_others_stay(tmp_path: Path) -> None:
    path = written(tmp_path, "price,count,class\nhigh,1,1\nnan,1.5,1\n1,2,maybe\n1,2\n3,4,0\n")

    found = read(path, Columns(label="class"))

    fields: list[Errors] = [r.wrong + r.wrong_label for r in found]
    assert [[field for field, _ in wrong] for wrong in fields] == [
        ["data.price"],
        ["data.price", "data.count"],
        ["class"],
        ["row"],
        [],
    ]


@pytest.mark.parametrize(
    ("text", "columns", "message"),
    [
        ("count\n1\n", Columns(), "no column price"),
        ("price\n1\n", Columns(label="class"), "no column class"),
        ("", Columns(), "is empty; the first line names the columns"),
        ("PRICE,Count\n1,2\n", Columns(), "price \\(but 'PRICE': rename it\\), count \\(but 'Count'"),
        ("price, count\n1,2\n", Columns(), "no column count \\(but ' count': rename it\\)"),
        ("price,Class\n1,2\n", Columns(label="class"), "no column class \\(but 'Class'"),
        ("price;count\n1;2\n", Columns(), "separated by ';'"),
        ("price\tcount\n1\t2\n", Columns(), "separated by"),
        ('price,name\n1,"a\n2,b\n', Columns(), "line 3: unexpected end of data"),
        ('price,name\n1,"a"b\n', Columns(), "line 2"),
        ("price,name\n1,a\0b\n", Columns(), "holds NUL bytes"),
        ("price,name\n1," + "x" * 200_000 + "\n", Columns(), "field larger than field limit"),
        ("price,price\n1,1\n", Columns(), "twice"),
        ("price\n\udcff\n", Columns(), "UTF-8"),
    ],
)
def test_a_file_that_cannot_be_played_is_an_error(tmp_path: Path, text: str, columns: Columns, message: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(text.encode(errors="surrogateescape"))

    with pytest.raises(FileUnusable, match=message):
        read(path, columns)


def test_a_broken_archive_or_a_folder_is_an_error(tmp_path: Path) -> None:
    broken, whole = tmp_path / "broken.csv.gz", gzip.compress(b"price\n1\n" * 1000)
    broken.write_bytes(whole[:12] + b"\xff" * 20 + whole[32:])

    for path in (broken, tmp_path, tmp_path / "nowhere.csv"):
        with pytest.raises(FileUnusable, match="cannot be read"):
            CsvFile.of(path)


def test_a_mark_before_the_header_is_passed_over_and_fields_without_a_column_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffprice,extra\n1,x\n")

    [row] = read(path, Columns())

    assert row.event["data"]["price"] == 1.0
    assert CsvFile.of(path).missing_fields(SPEC, Columns()) == ["count", "open", "name"]


def test_a_row_under_the_id_of_another_one_is_refused_by_its_number(tmp_path: Path) -> None:
    path = written(tmp_path, "price,key\n1,a\n2,b\n3,a\n")

    found = read(path, Columns(id="key"))

    assert [r.wrong for r in found[:2]] == [[], []]
    assert found[2].wrong == [("id", "'a' is the id of row 1 too; give each row its own")]
