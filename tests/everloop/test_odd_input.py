"""Whatever users give the client and the command line, what is bad is named, and the rest arrives."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from everloop import AsyncEverloop, Everloop, EverloopHTTPError
from everloop.cli import build
from everloop.errors import EverloopError, LoopNameInvalid
from everloop.wire import batches
from everloop_schemas.ingest import EventReceived, LabelReceived

if TYPE_CHECKING:
    from tests.everloop.conftest import Served

pytestmark = pytest.mark.app
NAN = float("nan")


class NaTType(datetime):
    """As in pandas: a datetime that equals nothing, printed as NaT."""

    __hash__ = datetime.__hash__

    def __eq__(self, other: object) -> bool:
        return False

    def isoformat(self, *args: Any) -> str:
        """No time."""
        return "NaT"


LOOPED: dict[str, Any] = {}
LOOPED["x"] = LOOPED


def rows(n: int, bad: dict[int, Any]) -> Iterator[dict[str, Any]]:
    """A generator of rows, some of them with other prices."""
    return ({"id": f"r{i}", "data": {"price": bad.get(i, float(i))}} for i in range(n))


async def test_a_row_without_a_form_in_json_is_rejected_by_its_index_and_all_others_arrive(
    installation: Served,
) -> None:
    bad = {0: NAN, 700: NAN, 701: "x", 999: -math.inf}

    with Everloop(ingest=installation.url) as client:
        answer = client.publish("market", rows(1000, bad))
    async with AsyncEverloop(ingest=installation.url) as client2:
        again = await client2.publish("market", rows(1000, bad))

    for a in (answer, again):
        assert a.accepted == 996
        assert [r.index for r in a.rejected] == [0, 700, 701, 999]
        assert [r.id for r in a.rejected] == ["r0", "r700", "r701", "r999"]
    assert answer.rejected[1].errors == (
        ("data.price", "is missing (NaN): leave it out, or send None; JSON has no form for it"),
    )


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (NAN, "is missing (NaN)"),
        (np.float64("nan"), "is missing (NaN)"),
        (np.float32("inf"), "inf"),
        (NaTType(2024, 1, 1), "is missing (NaN)"),
        (np.datetime64("2024-01-01"), "numpy.datetime64"),
        (np.array([1.0]), "numpy.ndarray"),
        (Decimal("1.5"), "decimal.Decimal"),
        (UUID(int=7), "uuid.UUID"),
        (b"1", "(bytes)"),
        ({1}, "(set)"),
        (1j, "(complex)"),
        ("\ud800", "not Unicode"),
        (LOOPED, "holds itself"),
    ],
    ids=repr,
)
def test_what_json_cannot_express_is_named_alone_and_in_a_list(installation: Served, value: Any, message: str) -> None:
    with Everloop(ingest=installation.url, serving=installation.url) as client:
        listed = client.publish("market", [{"data": {"price": value}}, {"data": {"price": 1}}])
        labels = client.label("market", [{"id": "a", "label": value}, {"id": "b", "label": True}])
        with pytest.raises(EverloopHTTPError) as alone:
            client.publish("market", {"price": value})
        with pytest.raises(EverloopHTTPError) as asked:
            client.predict("market", {"price": value})

    assert (listed.accepted, labels.accepted) == (1, 1)
    for errors in (listed.rejected[0].errors, alone.value.errors, asked.value.errors):
        assert errors[0][0].startswith("data.price")
        assert message in errors[0][1]
    assert labels.rejected[0].errors[0][0].startswith("label")


def test_values_of_numpy_and_other_entries_are_taken_as_they_are_meant(installation: Served) -> None:
    given = [{"price": np.float32(1.5)}, {"price": np.int64(2)}, {"price": 3, "demand": None}]

    with Everloop(ingest=installation.url) as client:
        answer = client.publish("market", [{"data": data} for data in given])
        strange = client.publish("market", [7, "x", None, {"data": {"price": 1}}])  # type: ignore[list-item]
        nothing = client.publish("market", iter([]))
        one = client.publish("market", [{"data": {"price": "x"}}])

    assert (answer.accepted, strange.accepted, nothing.accepted) == (3, 1, 0)
    assert [r.index for r in strange.rejected] == [0, 1, 2]
    assert [(r.index, r.errors[0][0]) for r in one.rejected] == [(0, "data.price")]
    prices = sorted(e.data.fields["price"] for e in installation.events(EventReceived.topic))
    assert prices == [1, 1.5, 2, 3]


def test_a_list_travels_in_parts_by_number_and_by_size() -> None:
    small, large = [{"x": 1}] * 1200, [{"x": "y" * 900_000}] * 10

    assert [len(p.texts) for p in batches(small, dict)] == [500, 500, 200]
    assert [len(p.texts) for p in batches(large, dict)] == [4, 4, 2]


def test_what_was_delivered_before_the_end_is_told_with_the_error(installation: Served) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from rows(600, {})
        installation.faults.extend([503] * 50)
        yield from rows(500, {})

    with Everloop(ingest=installation.url, retry_for=0.2) as client, pytest.raises(EverloopError) as ended:
        client.publish("market", broken())

    assert ended.value.delivered is not None
    assert ended.value.delivered.accepted == 500


@pytest.mark.parametrize("loop", ["", "a/b", "../x", "Market", "x" * 64, "a b", "é", "%2e"])
def test_a_name_that_no_loop_can_have_is_said_so_by_client_and_command(installation: Served, loop: str) -> None:
    with Everloop(ingest=installation.url, serving=installation.url) as client:
        with pytest.raises(LoopNameInvalid, match="lower-case letters"):
            client.publish(loop, {"x": 1})
        with pytest.raises(LoopNameInvalid, match="lower-case letters"):
            client.predict(loop, {"x": 1})

    for args in (["publish", loop, "{}"], ["label", loop, "a", "1"], ["predict", loop, "{}"], ["status", loop]):
        out = run(*args)
        assert out.exit_code == 1
        assert "lower-case letters" in out.stderr


def run(*args: str, stdin: str | bytes | None = None) -> Result:
    """Run the program in this process."""
    return CliRunner().invoke(build(), args, input=stdin)


@pytest.mark.parametrize("name", ["@a", "[1]", '{"x": 1}', "@", "-", "a/b", "..", "100%"])
def test_an_id_that_looks_like_a_file_or_json_is_an_id_where_the_truth_stands_beside_it(
    installation: Served, name: str
) -> None:
    label = run("label", "market", "--", name, "true")
    feedback = run("feedback", "market", "--wrong", "--", name)

    assert (label.exit_code, feedback.exit_code) == (0, 0), label.stderr + feedback.stderr
    assert {e.subject for e in installation.events(LabelReceived.topic)} == {name}


def test_an_empty_id_is_refused_by_client_and_command_as_by_the_door(installation: Served) -> None:
    with Everloop(ingest=installation.url) as client:
        with pytest.raises(EverloopHTTPError, match="id must be"):
            client.publish("market", {"price": 1}, id="")
        with pytest.raises(EverloopHTTPError, match="id must be"):
            client.label("market", "", True)

    outs = [run("publish", "market", '{"price": 1}', "--id", ""), run("label", "market", "", "true")]
    assert [o.exit_code for o in outs] == [1, 1]
    assert all("id: must be" in o.stderr for o in outs)


@pytest.mark.parametrize(
    ("text", "meant"), [("1.0", True), ("yes", True), ("TRUE", True), ("0", False), ("false", False), ('"no"', False)]
)
def test_a_label_on_the_command_line_is_read_as_a_cell_is(installation: Served, text: str, meant: bool) -> None:
    out = run("label", "market", "a", text)

    assert (out.exit_code, [e.data.label for e in installation.events(LabelReceived.topic)]) == (0, [meant]), out.stderr


BAD_FILES = {
    "empty": b"",
    "binary": bytes(range(256)),
    "zeros": b"\0" * 1000,
    "utf16": "{}".encode("utf-16"),
    "deep": b"[" * 100_000,
    "long": b'{"price": "' + b"x" * 2_000_000,
    "twice": b'{"price": 1, "price": 2}',
    "nan": b'{"price": NaN}',
    "half": b'{"price": 1',
    "lines": b'{"price": 1}\n{"price": \n',
    "scalar": b"7",
    "text": b'"x"',
}


@pytest.mark.parametrize("kind", [*BAD_FILES, "missing", "folder"])
@pytest.mark.parametrize("command", ["publish", "predict", "label", "feedback", "apply", "replay"])
def test_a_bad_file_ends_a_command_with_one_sentence(installation: Served, command: str, kind: str) -> None:
    file = installation.folder / kind
    if kind == "folder":
        file.mkdir()
    elif kind in BAD_FILES:
        file.write_bytes(BAD_FILES[kind])
    args = {"apply": ["-f", str(file)], "replay": ["market", str(file)]}.get(command, ["market", f"@{file}"])

    out = run(command, *args)

    assert out.exit_code in (1, 2), out.output
    assert out.stderr.startswith(("everloop: ", "Usage", "number 1: ", "row ")) or "everloop: " in out.stderr
    assert "something broke" not in out.stderr
    assert "Traceback" not in out.output
    assert len(out.stderr) < 5_000


@pytest.mark.parametrize(
    "args",
    [
        ["publish", "market", "{"],
        ["publish", "market", "[1, 2]"],
        ["publish", "market", "null"],
        ["publish", "market", '{"price": 1}', "--time", "yesterday"],
        ["publish", "market", '{"price": 1}', "--entity", ""],
        ["predict", "market", "[]"],
        ["label", "market"],
        ["label", "market", "a", "maybe"],
        ["label", "market", "a", "\udcff"],
        ["label", "market", "[[]]"],
        ["label", "market", "{"],
        ["feedback", "market", "a", "--label", "{}"],
        ["feedback", "market", "a", "--wrong", "--label", "true"],
        ["replay", "market", "/nowhere", "--rate", "fast"],
        ["replay", "market", "/dev/null"],
        ["status", "no/where"],
        ["history", ""],
        ["retrain", "a b"],
    ],
    ids=str,
)
def test_a_bad_argument_ends_a_command_with_one_sentence(installation: Served, args: list[str]) -> None:
    installation.status = {}

    out = run(*args)

    assert out.exit_code in (1, 2), out.output
    assert "something broke" not in out.stderr
    assert "Traceback" not in out.output
    assert json.dumps(out.stderr)
