"""JSON is read strictly: every key once, UTF-8, no NaN; and refusals have a reason."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everloop_shared.strict_json import NotJson, read

NAMES = st.text(max_size=6) | st.sampled_from(['"', ":", '":', '\\":', " :", "a b", "\\"])
LEAVES = (
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | NAMES
)
TREES = st.recursive(LEAVES, lambda t: st.lists(t, max_size=4) | st.dictionaries(NAMES, t, max_size=4), max_leaves=20)
LAYOUTS = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: "), (",", " :\r\n")])


@given(value=TREES, layout=LAYOUTS, ascii_only=st.booleans())
def test_every_value_is_read_as_the_standard_library_reads_it(
    value: Any, layout: tuple[str, str], ascii_only: bool
) -> None:
    text = json.dumps(value, separators=layout, ensure_ascii=ascii_only).encode(errors="surrogatepass")
    try:
        text.decode()
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeError:
        with pytest.raises(NotJson):
            read(text)
        return

    assert read(text) == json.loads(text)


@given(inner=st.dictionaries(NAMES, LEAVES, min_size=1, max_size=4), deep=st.booleans(), layout=LAYOUTS)
def test_a_repeated_key_is_refused_by_its_name(inner: dict[str, Any], deep: bool, layout: tuple[str, str]) -> None:
    name = next(iter(inner))
    pair = json.dumps({name: 1}, separators=layout)[1:-1]
    whole = json.dumps(inner, separators=layout)[:-1] + "," + pair + "}"
    text = f'[{{"data":{whole}}}]' if deep else whole

    with pytest.raises(NotJson, match="is there twice"):
        read(text.encode(errors="replace"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"x":1,"x":2}', "'x' is there twice"),
        (b'{"x":1,"\\u0078":2}', "'x' is there twice"),
        (b'{"data":{"x" : 1,\n"x"\t:2}}', "'x' is there twice"),
        (b'[{"id":"a"},{"id":"b","id":"c"}]', "'id' is there twice"),
        (b'{"x":NaN}', "RFC 8259"),
        (b'{"x":-Infinity}', "RFC 8259"),
        (b'{"x":"\\ud800"}', "RFC 8259"),
        (b'{"x":"\xff"}', "UTF-8"),
        (b'{"x":01}', "number"),
        (b'{"x":1} x', "trailing"),
        (b'{"x":1}{"x":2}', "trailing"),
        (b"", "EOF"),
        (b"[" * 100_000, "recursion"),
        (b'{"x":' + b"9" * 100_000 + b"}", "out of range"),
        ('{"x":1}'.encode("utf-16"), "byte order mark"),
    ],
)
def test_text_that_is_not_json_is_refused_with_the_reason(text: bytes, reason: str) -> None:
    with pytest.raises(NotJson, match=reason):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b'\xef\xbb\xbf{"x":1}', {"x": 1}),
        (b'{"a":"\\"x\\":1","b":":","c":{"a":1}}', {"a": '"x":1', "b": ":", "c": {"a": 1}}),
        (b'{"":1," ":2}', {"": 1, " ": 2}),
        (b'{"x":-0.0}', {"x": -0.0}),
        (b'{"x":1e999}', {"x": float("inf")}),
        (b'{"x":' + b"9" * 4_000 + b"}", {"x": 10**4_000 - 1}),
    ],
)
def test_unusual_but_valid_json_is_read(text: bytes, value: Any) -> None:
    assert read(text) == value


def test_a_large_object_with_a_repeated_key_is_refused_quickly() -> None:
    text = b"{" + b",".join(b'"k%d":1' % i for i in range(100_000)) + b',"k99999":1}'
    started = time.process_time()

    with pytest.raises(NotJson, match="'k99999' is there twice"):
        read(text)

    assert time.process_time() - started < 2
