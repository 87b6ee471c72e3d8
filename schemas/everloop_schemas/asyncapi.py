"""The catalogue as one AsyncAPI 3.0 document: which topic carries which events, and who sends them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from everloop_schemas.dead_letter import DeadLetter
from everloop_schemas.envelope import ALL_SERVICES, FOREVER, Event, Topic

PLAIN = re.compile(r"^[A-Za-z_][A-Za-z0-9_.-]*$")
KAFKA_BINDING = "0.5.0"
CONTENT_TYPE = "application/cloudevents+json"
KEYS = {
    "loop": ("The loop's name.", "shop"),
    "loop/subject": ("The loop's name, a slash, and the subject of the event.", "shop/customer-17"),
}
"""What a key is and an example of one, by what a topic is keyed by."""
_HEADERS = {
    "type": "object",
    "required": ["content-type"],
    "properties": {
        "content-type": {"type": "string", "const": f"{CONTENT_TYPE}; charset=UTF-8"},
        "traceparent": {
            "type": "string",
            "description": "The trace context of the envelope again, where its trace is recorded.",
        },
    },
}
WORDS_OF_YAML = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}


def build_document(classes: Mapping[str, type[Event]], topics: Mapping[str, Topic]) -> dict[str, Any]:
    """The document as plain data; payloads point to the JSON Schemas beside it."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Everloop",
            "version": "1.0.0",
            "description": "Every event on Everloop's topics: CloudEvents 1.0, structured mode, JSON. "
            "A topic's name may carry the prefix of EVERLOOP_TOPIC_PREFIX.",
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "servers": {
            "kafka": {
                "host": "127.0.0.1:9092",
                "protocol": "kafka",
                "description": "The cluster that EVERLOOP_KAFKA_BOOTSTRAP names; this is its default.",
            }
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": {name: _build_channel(topic, classes) for name, topic in sorted(topics.items())},
        "operations": {f"send.{name}": _build_operation(topic) for name, topic in sorted(topics.items())},
        "components": {"messages": {name: _build_message(name, cls) for name, cls in sorted(classes.items())}},
    }


def _build_channel(topic: Topic, classes: Mapping[str, type[Event]]) -> dict[str, Any]:
    carried = sorted(name for name, cls in classes.items() if cls.topic.name == topic.name)
    kept: dict[str, Any] = {"cleanup.policy": ["compact" if topic.compacted else "delete"]}
    if not topic.compacted and topic.retention_ms != FOREVER:
        kept["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": f"Owned by {topic.owner}; keyed by {topic.keyed_by}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"} for name in carried},
        "bindings": {"kafka": {"topic": topic.name, "topicConfiguration": kept, "bindingVersion": KAFKA_BINDING}},
    }


def _build_operation(topic: Topic) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{topic.name}"},
        "summary": "All services publish here."
        if topic.owner == ALL_SERVICES
        else f"Only {topic.owner} publishes here.",
    }


def _build_message(name: str, cls: type[Event]) -> dict[str, Any]:
    json_schema = "application/schema+json;version=draft-2020-12"
    return {
        "name": name,
        "title": cls.__name__,
        "summary": " ".join((cls.__doc__ or "").split()),
        "contentType": CONTENT_TYPE,
        "headers": _HEADERS,
        "bindings": {"kafka": {"key": _build_key(cls), "bindingVersion": KAFKA_BINDING}},
        "payload": {"schemaFormat": json_schema, "schema": {"$ref": f"{name}.json"}},
    }


def _build_key(cls: type[Event]) -> dict[str, Any]:
    description, example = KEYS[cls.topic.keyed_by]
    if issubclass(cls, DeadLetter):
        description = "The key of the record that could not be processed; in base64 where it is not UTF-8."
    return {"type": "string", "description": description, "examples": [example]}


def to_yaml(data: Mapping[str, Any]) -> str:
    """Plain data as block YAML, so that no YAML library is needed here; strings are quoted as in JSON."""
    return "\n".join(_lines(data, "")) + "\n"


def _lines(data: Any, indent: str) -> Iterator[str]:
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield from _entry(f"{indent}{_scalar(key)}:", value, indent)
    else:
        for value in data:
            yield from _entry(f"{indent}-", value, indent)


def _entry(start: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping | list) and value:
        yield start
        yield from _lines(value, indent + "  ")
    else:
        yield f"{start} {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str) and PLAIN.match(value) and value.lower() not in WORDS_OF_YAML:
        return value
    return json.dumps(value, ensure_ascii=False)
