"""Our encoding of fetches is aiokafka's, byte for byte and field by field."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import pytest
from aiokafka.protocol.fetch import FetchRequest_v11, FetchResponse_v11  # type: ignore[import-untyped]
from aiokafka.protocol.struct import Struct  # type: ignore[import-untyped]

from everloop_shared.messaging.kafka.fetch_codec import decode_response, encode_request

ASKED = [
    [],
    [("a", [(0, -1, 7, -1, 1024)])],
    [("tópico", [(p, -1, 1 << 40, -1, 1) for p in range(3)]), ("b", [])],
]
ANSWERED = [
    [],
    [("a", [(0, 0, 7, 7, 0, [], -1, b"")])],
    [("a", [(0, 0, 7, 7, 0, None, -1, b"records"), (1, 3, -1, -1, -1, [(9, 2), (8, 1)], 5, b"")]), ("é", [])],
    [("a", [(0, 0, 7, 7, 0, None, -1, None)])],
]


@pytest.mark.parametrize("topics", ASKED)
@pytest.mark.parametrize(("rack", "forgotten"), [("", []), ("räck", []), ("", [("a", [1, 2])])])
def test_a_request_has_the_bytes_of_aiokafka(topics: Any, rack: str, forgotten: Any) -> None:
    request = FetchRequest_v11(-1, 500, 1, 52_428_800, 1, 0, -1, topics, forgotten, rack)

    assert encode_request(request) == Struct.encode(request)


@pytest.mark.parametrize("topics", ANSWERED)
@pytest.mark.parametrize("wrap", [bytes, BytesIO])
def test_an_answer_has_the_fields_of_aiokafka(topics: Any, wrap: Any) -> None:
    raw = Struct.encode(FetchResponse_v11(1, 2, 3, topics))

    ours, stock = decode_response(wrap(raw)), Struct.decode.__func__(FetchResponse_v11, raw)

    assert ours.__dict__ == stock.__dict__


def test_an_answer_that_ends_too_early_is_an_error() -> None:
    raw = Struct.encode(FetchResponse_v11(1, 2, 3, [("a", [(0, 0, 7, 7, 0, [], -1, b"")])]))

    with pytest.raises(Exception, match="buffer"):
        decode_response(raw[:-6])
