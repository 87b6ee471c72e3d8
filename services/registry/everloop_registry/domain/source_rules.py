"""Rules for the sources of a spec that is applied: whose topics they may name, and which parts a format has."""

from __future__ import annotations

from collections.abc import Iterator

from everloop_schemas.catalogue import is_internal_topic
from everloop_schemas.loop import LoopSpec
from everloop_schemas.sources import MappingPart, SourceSpec
from everloop_shared.errors import FieldError

PARTS_OF_FORMAT = {"operations": "debezium", "types": "cloudevents"}
"""By name of a part of a mapping, the only format whose records have it."""


def check_sources(spec: LoopSpec) -> Iterator[FieldError]:
    """Each error in the sources, by dotted path, with the fix."""
    names, topics = set[str](), set[tuple[str | None, str]]()
    for i, source in enumerate(spec.sources):
        path = f"sources.{i}"
        if source.name in names:
            yield FieldError(f"{path}.name", f"{source.name!r} names another source too; give it a name of its own")
        if (source.cluster, source.topic) in topics:
            yield FieldError(f"{path}.topic", "is the topic of another source too; one source gives events and labels")
        if is_internal_topic(source.topic):
            yield FieldError(f"{path}.topic", "is a topic of Everloop or of Kafka itself; name a topic of your own")
        names.add(source.name)
        topics.add((source.cluster, source.topic))
        yield from _check_mappings(path, source, spec)


def _check_mappings(path: str, source: SourceSpec, spec: LoopSpec) -> Iterator[FieldError]:
    mappings: tuple[tuple[str, MappingPart | None], ...] = (("events", source.events), ("labels", source.labels))
    for part, mapping in mappings:
        for name, format_ in PARTS_OF_FORMAT.items():
            if mapping is not None and getattr(mapping, name) is not None and source.format != format_:
                fix = f"is for the format {format_}, not for {source.format}; leave it out"
                yield FieldError(f"{path}.{part}.{name}", fix)
    for field in source.events.fields if source.events else ():
        if field not in spec.fields:
            reason = "is not in the loop's schema; the left side is a field of the schema, the right side its path"
            yield FieldError(f"{path}.events.fields.{field}", reason)
