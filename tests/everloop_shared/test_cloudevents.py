"""CloudEvents are read as the specification says, and what is wrong with one is named."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from everloop_shared.cloudevents import (
    HTTP_PREFIX,
    KAFKA_PREFIX,
    CloudEvent,
    MalformedHeader,
    http_attributes,
    is_json_type,
    kafka_attributes,
    read_binary,
    read_structured,
)

EVENT = {"specversion": "1.0", "id": "1", "source": "/shop", "type": "order", "data": {"price": 1}}
WITHOUT_DATA = {name: value for name, value in EVENT.items() if name != "data"}


def encoded(text: str | bytes) -> str:
    """Base64 of a text."""
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (EVENT, {"price": 1}),
        (EVENT | {"data": [1]}, [1]),
        (EVENT | {"data": None}, None),
        (WITHOUT_DATA, None),
        (EVENT | {"subject": None, "time": None, "datacontenttype": None, "dataschema": None, "x": None}, {"price": 1}),
        (EVENT | {"datacontenttype": "Text/JSON; charset=utf-8"}, {"price": 1}),
        (EVENT | {"datacontenttype": "image/svg+json"}, {"price": 1}),
        (WITHOUT_DATA | {"data_base64": encoded('{"price": 1}')}, {"price": 1}),
        (WITHOUT_DATA | {"data_base64": encoded("\ufeff[1]"), "datacontenttype": "application/json"}, [1]),
        (WITHOUT_DATA | {"data_base64": encoded("{}"), "data": None}, {}),
        (EVENT | {"data_base64": None}, {"price": 1}),
        (EVENT | {"partitionkey": "k", "sequence": 7, "myext": {"a": []}}, {"price": 1}),
    ],
)
def test_a_structured_event_is_read_with_its_data(value: dict[str, Any], data: Any) -> None:
    event = read_structured(value)

    assert isinstance(event, CloudEvent)
    assert (event.id, event.source, event.type, event.data) == ("1", "/shop", "order", data)
    assert (event.subject, event.time) == (None, None)


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        (7, "body", "object"),
        (EVENT | {"specversion": "0.3"}, "specversion", "'0.3'"),
        (EVENT | {"specversion": "2.0"}, "specversion", "'2.0'"),
        (EVENT | {"specversion": 1.0}, "specversion", '"1.0"'),
        (EVENT | {"specversion": None}, "specversion", "missing"),
        (EVENT | {"id": ""}, "id", "not empty"),
        (EVENT | {"id": None}, "id", "missing"),
        (EVENT | {"source": 7}, "source", "text"),
        (EVENT | {"type": ""}, "type", "text"),
        (EVENT | {"subject": ""}, "subject", "leave it out"),
        (EVENT | {"subject": 7}, "subject", "text"),
        (EVENT | {"time": 1714564800}, "time", "text"),
        (EVENT | {"datacontenttype": "application/xml"}, "datacontenttype", "application/json"),
        (EVENT | {"datacontenttype": ["application/json"]}, "datacontenttype", "application/json"),
        (EVENT | {"data_base64": encoded("{}")}, "data_base64", "beside data"),
        (WITHOUT_DATA | {"data_base64": "e30"}, "data_base64", "padding"),
        (WITHOUT_DATA | {"data_base64": "e 30="}, "data_base64", "base64"),
        (WITHOUT_DATA | {"data_base64": "ä"}, "data_base64", "base64"),
        (WITHOUT_DATA | {"data_base64": 7}, "data_base64", "base64"),
        (WITHOUT_DATA | {"data_base64": encoded('{"a": 1, "a": 2}')}, "data_base64", "'a' is there twice"),
        (WITHOUT_DATA | {"data_base64": encoded(b"\xff")}, "data_base64", "JSON"),
        (WITHOUT_DATA | {"data_base64": ""}, "data_base64", "JSON"),
    ],
)
def test_what_is_wrong_with_a_structured_event_is_named(value: Any, field: str, expected: str) -> None:
    errors = read_structured(value)

    assert isinstance(errors, list)
    assert [e.field for e in errors] == [field]
    assert expected in errors[0].error


def test_every_missing_attribute_is_named() -> None:
    errors = read_structured({"specversion": "1.0", "subject": []})

    assert isinstance(errors, list)
    assert [e.field for e in errors] == ["id", "source", "type", "subject"]


@pytest.mark.parametrize(
    ("sent", "value"),
    [
        (b"plain", "plain"),
        (b"Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        (b"caf%c3%a9", "café"),
        (b"%41", "A"),
        (b"%2525", "%25"),
        (b'"two words"', "two words"),
        (rb'"a \"b\" \\ %E2%82%AC"', 'a "b" \\ €'),
        (b'"', '"'),
        (b'""', ""),
        (b"100%", "100%"),
        (b"a+b", "a+b"),
    ],
)
def test_a_header_of_http_is_unquoted_and_percent_decoded_once(sent: bytes, value: str) -> None:
    assert http_attributes([(b"host", b"x"), (b"ce-subject", sent)]) == {"subject": value}


@pytest.mark.parametrize("value", [b"%C0%A0", b"%ff", b"%E2%82", "é".encode(), b"\xe9", b"%ED%A0%80"])
def test_a_header_of_http_that_is_not_percent_encoded_utf8_is_named(value: bytes) -> None:
    with pytest.raises(MalformedHeader, match=r"ce-subject.* UTF-8"):
        http_attributes([(b"ce-subject", value)])


def test_a_repeated_header_is_named() -> None:
    with pytest.raises(MalformedHeader, match="ce-id is given more than once"):
        http_attributes([(b"ce-id", b"1"), (b"ce-type", b"t"), (b"ce-id", b"1")])
    with pytest.raises(MalformedHeader, match="ce_id is given more than once"):
        kafka_attributes([("ce_id", b"1"), ("ce_id", b"2")])


def test_a_record_of_kafka_in_binary_mode_has_its_attributes_as_headers_in_utf8() -> None:
    headers = [("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", "é%41".encode())]
    headers += [("ce_source", b"/"), ("ce_type", b"t"), ("ce_subject", None), ("other", b"\xff")]  # type: ignore[list-item]

    attributes = kafka_attributes(headers)
    event = read_binary(attributes, {"price": 1}, KAFKA_PREFIX)

    assert isinstance(event, CloudEvent)
    assert (event.id, event.subject, event.data) == ("é%41", None, {"price": 1})
    with pytest.raises(MalformedHeader, match="ce_id is not UTF-8"):
        kafka_attributes([("ce_id", b"\xff")])


@pytest.mark.parametrize("prefix", [HTTP_PREFIX, KAFKA_PREFIX])
def test_an_error_in_binary_mode_names_the_header(prefix: str) -> None:
    versions = [read_binary({"specversion": v, "id": "1"}, {}, prefix) for v in ("0.3", "2.0")]
    missing = read_binary({"specversion": "1.0", "id": "", "source": "/"}, {}, prefix)

    assert isinstance(missing, list)
    assert [e.field for e in missing] == [f"{prefix}id", f"{prefix}type"]
    for errors in versions:
        assert isinstance(errors, list)
        assert [e.field for e in errors] == [f"{prefix}specversion"]


def test_a_missing_media_type_is_json() -> None:
    kinds = [None, "", "application/json", "TEXT/JSON ; a=b", "a/b+json", "text/plain", "application/x-ndjson", "json"]

    assert [is_json_type(kind) for kind in kinds] == [True, True, True, True, True, False, False, False]
