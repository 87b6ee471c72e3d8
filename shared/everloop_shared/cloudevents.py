"""Reads CloudEvents 1.0.2 with JSON data, structured or binary (HTTP, Kafka), from values that were decoded already.

https://github.com/cloudevents/spec: the specification, its JSON format, and its HTTP and Kafka protocol bindings.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from everloop_shared import strict_json
from everloop_shared.errors import FieldError

VERSION = "1.0"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
REQUIRED = ("id", "source", "type")
"""The attributes that every CloudEvent has beside `specversion`."""
OPTIONAL = ("subject", "time")
HTTP_PREFIX, KAFKA_PREFIX = "ce-", "ce_"
"""What the names of attributes begin with as headers of HTTP and of Kafka, in binary mode."""
_HTTP_PREFIX = HTTP_PREFIX.encode()
_QUOTED_PAIR = re.compile(r"\\(.)")


@dataclass(frozen=True, slots=True)
class CloudEvent:
    """A CloudEvent with what version 1.0 requires. Its `time` is text, unchecked; its data is any JSON value, or None.

    `prefix` is what the names of its attributes begin with where they were sent, so that an error names the header.
    Extensions other than `traceparent` are ignored.
    """

    id: str
    source: str
    type: str
    subject: str | None
    time: str | None
    traceparent: str | None
    data: Any
    prefix: str = ""


class MalformedHeader(ValueError):
    """A header of a CloudEvent in binary mode cannot be read; `header` is its name, the message has the fix."""

    def __init__(self, header: str, fix: str) -> None:
        super().__init__(f"the header {header} {fix}")
        self.header, self.fix = header, fix


def is_structured(value: Any) -> bool:
    """Whether a JSON value is a CloudEvent, of any version, and not a document of another kind."""
    return type(value) is dict and "specversion" in value


def is_json_type(content_type: str | None) -> bool:
    """Whether a media type, with or without parameters, is JSON; a missing one is."""
    return not content_type or strict_json.is_json(content_type.partition(";")[0].strip().lower())


def http_attributes(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The attributes in the headers of an HTTP request (names in lower case), decoded; empty where it has none.

    Raises MalformedHeader. Values are decoded as of section 3.1.3.2 of the HTTP binding: double quotes, then percents.
    """
    found: dict[str, str] = {}
    for raw, value in headers:
        if raw.startswith(_HTTP_PREFIX):
            name = raw.decode("latin-1")
            _add(found, name, HTTP_PREFIX, _decode_http(name, value.decode("latin-1")))
    return found


def kafka_attributes(headers: Iterable[tuple[str, bytes | None]]) -> dict[str, str]:
    """The attributes in the headers of a Kafka record; empty where it has none. Raises MalformedHeader."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(KAFKA_PREFIX) and value is not None:
            try:
                _add(found, name, KAFKA_PREFIX, value.decode())
            except UnicodeDecodeError:
                raise MalformedHeader(name, "is not UTF-8; encode it in UTF-8") from None
    return found


def read_structured(value: Any) -> CloudEvent | list[FieldError]:
    """The event in a JSON value, or what is wrong with it. An attribute that is null is one that is absent."""
    if type(value) is not dict:
        return [FieldError("body", "must be a CloudEvent, an object")]
    attributes = {name: given for name, given in value.items() if given is not None}
    errors = _attribute_errors(attributes, "")
    data = None if errors else _structured_data(attributes)
    if isinstance(data, FieldError):
        errors = [data]
    return errors or _event(attributes, data, "")


def read_binary(attributes: Mapping[str, str], data: Any, prefix: str) -> CloudEvent | list[FieldError]:
    """The event of these attributes and this JSON value, or what is wrong with it.

    `prefix` is HTTP_PREFIX or KAFKA_PREFIX.
    """
    return _attribute_errors(attributes, prefix) or _event(attributes, data, prefix)


def _add(found: dict[str, str], header: str, prefix: str, value: str) -> None:
    name = header[len(prefix) :]
    if name in found:
        raise MalformedHeader(header, "is given more than once; send it once")
    found[name] = value


def _decode_http(name: str, value: str) -> str:
    if not value.isascii():
        raise MalformedHeader(name, "has characters beyond ASCII; percent-encode it, in UTF-8")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = _QUOTED_PAIR.sub(r"\1", value[1:-1])
    if "%" not in value:
        return value
    try:
        return unquote(value, errors="strict")
    except UnicodeDecodeError:
        raise MalformedHeader(name, "is not percent-encoded UTF-8; encode its characters in UTF-8 first") from None


def _attribute_errors(attributes: Mapping[str, Any], prefix: str) -> list[FieldError]:
    version = attributes.get("specversion")
    if version != VERSION:
        seen = "is missing" if version is None else f"is {str(version)[:20]!r}"
        return [FieldError(f"{prefix}specversion", f'{seen}; it must be "{VERSION}", the version of CloudEvents')]
    errors = [
        FieldError(prefix + name, "is missing; CloudEvents 1.0 needs it as text that is not empty")
        for name in REQUIRED
        if not _is_text(attributes.get(name))
    ]
    errors += [
        FieldError(prefix + name, "must be text that is not empty; leave it out where there is none")
        for name in OPTIONAL
        if name in attributes and not _is_text(attributes[name])
    ]
    return errors


def _structured_data(attributes: Mapping[str, Any]) -> Any:
    """The data as JSON value, None where there is none, or the FieldError of what is wrong with it."""
    kind = attributes.get("datacontenttype")
    if kind is not None and not (isinstance(kind, str) and is_json_type(kind)):
        wrong = "must be application/json (or end in /json or +json); send the data as JSON"
        return FieldError("datacontenttype", wrong)
    if "data_base64" not in attributes:
        return attributes.get("data")
    if "data" in attributes:
        return FieldError("data_base64", "is sent beside data; send JSON in data, or its bytes in data_base64")
    try:
        return strict_json.read(b64decode(attributes["data_base64"], validate=True))
    except strict_json.NotJson as e:
        return FieldError("data_base64", f"is {str(e)[:200]}; send the data as JSON")
    except (TypeError, ValueError, binascii.Error):
        return FieldError("data_base64", "is not base64 (RFC 4648, section 4, with padding); send JSON in data instead")


def _event(attributes: Mapping[str, Any], data: Any, prefix: str) -> CloudEvent:
    trace = attributes.get("traceparent")
    return CloudEvent(
        id=attributes["id"],
        source=attributes["source"],
        type=attributes["type"],
        subject=attributes.get("subject"),
        time=attributes.get("time"),
        traceparent=trace if isinstance(trace, str) else None,
        data=data,
        prefix=prefix,
    )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""
