"""Tensors as the stock client writes them in binary, and what does not hold what it says."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.utils import (  # type: ignore[import-untyped]
    deserialize_bytes_tensor,
    serialize_byte_tensor,
    triton_to_np_dtype,
)

from everloop_serving.domain.tensors import DATATYPES, WrongTensor, decode_raw, encode_raw, read_tensor
from everloop_serving.errors import ObservationRejected

NUMBERS = [datatype for datatype in DATATYPES if datatype not in ("BYTES", "BF16")]
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def raw_text(*texts: bytes) -> bytes:
    """A tensor of texts in binary."""
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


@pytest.mark.parametrize("datatype", NUMBERS)
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_numbers_are_read_and_written_as_numpy_does(datatype: str, data: st.DataObject) -> None:
    kind = np.dtype(triton_to_np_dtype(datatype))
    raw = data.draw(st.binary(min_size=kind.itemsize, max_size=kind.itemsize * 20).map(lambda b: _whole(kind, b)))
    wanted = np.frombuffer(raw, dtype=kind.newbyteorder("<"))

    values = decode_raw(datatype, memoryview(raw), len(wanted))

    assert np.array_equal(np.array(values, dtype=kind), wanted, equal_nan=kind.kind == "f")
    assert all(type(value) in (bool, int, float) for value in values)
    if not (kind.kind == "f" and np.isnan(wanted).any()):
        assert encode_raw(datatype, values) == raw


@given(st.lists(TEXT, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_texts_are_read_and_written_as_the_stock_client_does(texts: list[str]) -> None:
    sent = serialize_byte_tensor(np.array([text.encode() for text in texts], dtype=object)).item()

    values = decode_raw("BYTES", memoryview(sent), len(texts))

    assert values == texts
    assert encode_raw("BYTES", values) == sent
    assert [text.decode() for text in deserialize_bytes_tensor(encode_raw("BYTES", values))] == texts


@given(st.lists(st.floats(width=16, allow_nan=False), min_size=1, max_size=20))
@settings(max_examples=50, deadline=None)
def test_brain_floats_are_the_upper_halves_of_single_floats(numbers: list[float]) -> None:
    kept = np.array(numbers, dtype="<f4").view("<u4") & 0xFFFF0000
    sent = (kept >> 16).astype("<u2").tobytes()

    values = decode_raw("BF16", memoryview(sent), len(numbers))

    assert values == tuple(kept.view("<f4").tolist())


@given(st.sampled_from(DATATYPES), st.binary(max_size=100), st.integers(1, 50))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_values_or_refused(datatype: str, raw: bytes, count: int) -> None:
    try:
        values = decode_raw(datatype, memoryview(raw), count)
    except WrongTensor:
        return

    assert len(values) == count


@pytest.mark.parametrize(
    ("datatype", "raw", "count", "words"),
    [
        ("FP64", b"\x00" * 15, 2, "2 values of FP64 are 16 bytes of binary data, not 15"),
        ("FP64", b"\x00" * 24, 2, "not 24"),
        ("INT8", b"", 1, "not 0"),
        ("BOOL", b"\x00\x02", 2, "0 or 1"),
        ("BYTES", b"\x01\x00", 1, "ends after 0 of 1"),
        ("BYTES", raw_text(b"a"), 2, "ends after 1 of 2"),
        ("BYTES", struct.pack("<I", 2**31) + b"abc", 1, "2147483648 bytes long, and 3 are left"),
        ("BYTES", b"\xff\xff\xff\xffabc", 1, "4294967295 bytes long"),
        ("BYTES", raw_text(b"\xff\xfe"), 1, "not UTF-8"),
        ("BYTES", raw_text(b"\xed\xa0\x80"), 1, "not UTF-8"),
        ("BYTES", raw_text(b"a", b"b"), 1, "5 bytes after"),
    ],
)
def test_binary_data_that_is_not_what_it_says_is_refused(datatype: str, raw: bytes, count: int, words: str) -> None:
    with pytest.raises(ObservationRejected, match="price") as refused:
        read_tensor("inputs.0", "price", datatype, [count], memoryview(raw))

    assert words in refused.value.detail


@pytest.mark.parametrize(
    ("shape", "data"),
    [
        ([3], [1, 2, 3]),
        ([3, 1], [1, 2, 3]),
        ([3, 1], [[1], [2], [3]]),
        ([3, 1, 1], [[[1]], [[2]], [[3]]]),
    ],
)
def test_data_may_be_flat_or_nested_as_its_shape(shape: list[int], data: list[Any]) -> None:
    tensor = read_tensor("inputs.0", "price", "FP64", shape, data)

    assert tensor.values == [1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    ("shape", "data", "field"),
    [
        (None, [1], "shape"),
        ([], [1], "shape"),
        ([-1], [1], "shape"),
        ([True], [1], "shape"),
        ([1.0], [1], "shape"),
        (["1"], [1], "shape"),
        (1, [1], "shape"),
        ([1] * 9, [1], "shape"),
        ([2], [1], "shape"),
        ([0], [], "shape"),
        ([1001], [1] * 1001, "shape"),
        ([10**30], [1], "shape"),
        ([1, 2], [[1, 2]], "shape"),
        ([2], [[1], [2]], "data"),
        ([2, 1], [[1], 2], "data"),
        ([2, 1], [[1], [2, 3]], "data"),
        ([2, 1], [[[1]], [[2]]], "data"),
    ],
)
def test_a_shape_that_is_not_that_of_the_data_is_refused(shape: Any, data: list[Any], field: str) -> None:
    with pytest.raises(ObservationRejected, match="price") as refused:
        read_tensor("inputs.0", "price", "FP64", shape, data)

    assert [e.field for e in refused.value.errors] == [f"inputs.0.{field}"]


@pytest.mark.parametrize(
    ("datatype", "good", "bad"),
    [
        ("BOOL", [True, 0, 1], [0.5, 2, "true"]),
        ("INT8", [-128, 127], [128, 1.0, True]),
        ("UINT8", [0, 255], [-1, 256]),
        ("UINT64", [0, 2**64 - 1], [-1, 2**64]),
        ("INT64", [-(2**63), 2**63 - 1], [2**63]),
        ("FP16", [65_504, -1.5], [65_505, "1"]),
        ("FP32", [3.4e38, 1], [3.5e38, True]),
        ("BF16", [3.3e38], [3.5e38]),
        ("FP64", [1e308, 1, None], [True, "1", {}]),
        ("BYTES", ["a", "", None], [1, True, "\ud800"]),
    ],
)
def test_values_must_be_of_the_datatype(datatype: str, good: list[Any], bad: list[Any]) -> None:
    values = [*good, *bad]

    tensor = read_tensor("inputs.0", "price", datatype, [len(values)], values)

    wrong = [f"inputs.0.data.{row}" for row in range(len(good), len(values))]
    assert [e.field for e in tensor.wrong] == wrong
    assert all(e.error.startswith("price: must be ") and datatype in e.error for e in tensor.wrong)
    assert list(tensor.values[: len(good)]) == good


@pytest.mark.parametrize("datatype", [None, "FP99", "fp64", 7, ["FP64"], "x" * 10_000])
def test_an_unknown_datatype_is_refused_by_name(datatype: Any) -> None:
    with pytest.raises(ObservationRejected, match="price") as refused:
        read_tensor("inputs.0", "price", datatype, [1], [1.0])

    assert [e.field for e in refused.value.errors] == ["inputs.0.datatype"]
    assert len(refused.value.detail) < 500


def _whole(kind: np.dtype[Any], raw: bytes) -> bytes:
    """As many of the bytes as make whole values; those of booleans are 0 or 1."""
    whole = raw[: len(raw) // kind.itemsize * kind.itemsize]
    return bytes(byte & 1 for byte in whole) if kind.kind == "b" else whole
