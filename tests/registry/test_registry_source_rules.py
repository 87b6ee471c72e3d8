"""Sources of a loop file: what is read, and what is refused by field with the fix."""

from __future__ import annotations

import pytest
from tests.registry.spec_refusals import BINARY, errors_of

from everloop_registry.domain.spec_file import read_spec
from everloop_schemas.loop import LoopSpec
from everloop_schemas.sources import EventMapping, TimeMapping

ORDERS = BINARY + "sources:\n- {name: orders, topic: shop.orders"


def test_a_source_needs_only_a_name_and_a_topic() -> None:
    [source] = read_spec(f"{ORDERS}}}".encode(), is_json=False).sources

    assert (source.format, source.start, source.cluster) == ("json", "earliest", None)
    assert (source.events, source.labels) == (EventMapping(), None)


def test_a_mapping_is_read_whole_and_survives_the_log() -> None:
    text = f"""{ORDERS}, format: debezium, start: latest,
    events: {{id: after.id, entity: after.who, time: {{path: after.made, format: us}}, fields: {{x: after.amount}}}},
    labels: {{id: after.id, label: after.paid, time: after.paid_at, operations: [update]}}}}"""

    spec = read_spec(text.encode(), is_json=False)

    [source] = spec.sources
    assert source.events is not None
    assert source.labels is not None
    assert source.events.time == TimeMapping(path="after.made", format="us")
    assert source.labels.time == TimeMapping(path="after.paid_at")
    for kept in (spec.model_dump_json(by_alias=True), spec.model_dump_json(by_alias=True, exclude_none=True)):
        assert LoopSpec.model_validate_json(kept) == spec


def test_labels_alone_give_no_events() -> None:
    [source] = read_spec(f"{ORDERS}, labels: {{id: order}}}}".encode(), is_json=False).sources

    assert source.events is None


@pytest.mark.parametrize(
    ("text", "field", "says"),
    [
        (BINARY + "sources: [{topic: orders}]", "sources.0.name", "is missing"),
        (BINARY + "sources: [{name: orders}]", "sources.0.topic", "is missing"),
        (BINARY + "sources: {name: orders}", "sources", "must be a valid"),
        (BINARY + "sources: [orders]", "sources.0", "must be a valid"),
        (BINARY + "sources: [{name: Orders, topic: orders}]", "sources.0.name", "lower-case"),
        (BINARY + "sources: [{name: a, topic: 'a b'}]", "sources.0.topic", "must be the name of a topic"),
        (BINARY + f"sources: [{{name: a, topic: {'a' * 250}}}]", "sources.0.topic", "249"),
        (BINARY + "sources: [{name: a, topic: ..}]", "sources.0.topic", "of Kafka itself"),
        (BINARY + "sources: [{name: a, topic: __consumer_offsets}]", "sources.0.topic", "of Kafka itself"),
        (BINARY + "sources: [{name: a, topic: ingest.event_received.v1}]", "sources.0.topic", "of Everloop"),
        (BINARY + "sources: [{name: a, topic: prod.serving.prediction_made.v1}]", "sources.0.topic", "of Everloop"),
        (BINARY + "sources: [{name: a, topic: feature.entities.changelog}]", "sources.0.topic", "of Everloop"),
        (f"{ORDERS}, format: avro}}", "sources.0.format", "'json', 'cloudevents' or 'debezium'"),
        (f"{ORDERS}, formt: json}}", "sources.0.formt", "did you mean format"),
        (f"{ORDERS}, start: now}}", "sources.0.start", "'earliest' or 'latest'"),
        (f"{ORDERS}, bootstrap: 'evil:9092'}}", "sources.0.bootstrap", "is not known"),
        (f"{ORDERS}, events: {{entty: a}}}}", "sources.0.events.entty", "did you mean entity"),
        (f"{ORDERS}, events: {{id: a..b}}}}", "sources.0.events.id", "must be a path"),
        (f"{ORDERS}, events: {{fields: {{y: a}}}}}}", "sources.0.events.fields.y", "is not in the loop's schema"),
        (f"{ORDERS}, events: {{time: {{path: a, format: m}}}}}}", "sources.0.events.time.format", "'rfc3339'"),
        (f"{ORDERS}, events: {{operations: [create]}}}}", "sources.0.events.operations", "for the format debezium"),
        (f"{ORDERS}, events: {{types: [a]}}}}", "sources.0.events.types", "for the format cloudevents"),
        (f"{ORDERS}, format: debezium, events: {{operations: []}}}}", "sources.0.events.operations", "at least 1"),
        (f"{ORDERS}, format: debezium, labels: {{id: after.id}}}}", "sources.0", "labels needs label"),
        (f"{ORDERS}, format: debezium, labels: {{label: after.x}}}}", "sources.0", "labels needs id"),
        (f"{ORDERS}}}\n- {{name: orders, topic: other}}", "sources.1.name", "names another source too"),
        (f"{ORDERS}}}\n- {{name: again, topic: shop.orders}}", "sources.1.topic", "the topic of another source"),
        (BINARY + "sources:\n" + "".join(f"- {{name: a{i}, topic: t{i}}}\n" for i in range(11)), "sources", "10"),
    ],
)
def test_a_source_that_cannot_be_read_is_refused_by_field(text: str, field: str, says: str) -> None:
    found = errors_of(text)

    assert list(found) == [field]
    assert says in found[field]


def test_the_same_topic_of_two_clusters_is_two_sources() -> None:
    text = f"{ORDERS}}}\n- {{name: other, topic: shop.orders, cluster: crm}}"

    assert [s.cluster for s in read_spec(text.encode(), is_json=False).sources] == [None, "crm"]
