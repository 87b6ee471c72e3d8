"""Records of sources become events and labels as the mapping says, or are refused with field, path and fix."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from tests.ingest.source_records import AFTER, NOW, WRITTEN_MS, change, enveloped, mapping, record

from everloop_ingest.domain.sources.mapping import SourceLimits
from everloop_ingest.domain.sources.records import SourceRecordRejected
from everloop_schemas.envelope import Event
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_shared.errors import FieldError
from everloop_shared.messaging.routes import Position, Record

ORDER = {"order": 17, "customer": "anna", "made": "2025-12-31T12:00:00+01:00", "price": 1.5, "demand": None}
WRITTEN = datetime.fromtimestamp(WRITTEN_MS / 1000, UTC)


def test_a_json_record_is_an_event_whose_fields_have_their_own_names() -> None:
    [event] = mapping().read(record({"price": 1.5, "demand": 2, "other": "ignored"}), NOW)

    assert isinstance(event, EventReceived)
    assert (event.loop, event.revision, event.subject) == ("market", 3, "default")
    assert event.data.fields == {"price": 1.5, "demand": 2}
    assert (event.time, event.data.received) == (WRITTEN, WRITTEN)


def test_a_trace_context_in_a_header_of_the_record_goes_on_in_the_event() -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    sent = record({"price": 1.5, "demand": 2})

    [traced], [other] = (
        mapping().read(structs.replace(sent, headers=[("traceparent", value)]), NOW)
        for value in (trace.encode(), b"nonsense")
    )

    assert (traced.traceparent, other.traceparent) == (trace, None)


def test_a_mapping_names_where_id_entity_time_and_fields_are() -> None:
    events = {"id": "order", "entity": "customer", "time": "made", "fields": {"demand": "price"}}

    [event] = mapping(events=events).read(record(ORDER), NOW)

    assert (event.id, event.subject, event.time) == ("17", "anna", datetime(2025, 12, 31, 11, tzinfo=UTC))
    assert event.data.fields == {"price": 1.5, "demand": 1.5}


def test_a_record_that_is_read_again_is_the_same_event_and_every_other_record_another() -> None:
    orders, other_topic = mapping(), mapping(topic="returns")
    value = {"price": 1.0}
    first, again = (orders.read(record(value, offset=4), NOW)[0] for _ in range(2))
    others = [
        *orders.read(record(value, offset=5), NOW),
        *orders.read(record(value, offset=4, partition=1), NOW),
        *other_topic.read(record(value, offset=4), NOW),
    ]

    assert again.encode() == first.encode()
    assert len({first.id, *(e.id for e in others)}) == 4


@pytest.mark.parametrize(
    ("form", "value"),
    [
        (None, "2025-12-31T12:00:00.25Z"),
        ("rfc3339", "2025-12-31T13:00:00.25+01:00"),
        ("s", 1767182400.25),
        ("ms", 1767182400250),
        ("us", 1767182400250000),
        ("ns", 1767182400250000000),
    ],
)
def test_a_time_is_read_in_the_format_that_the_source_names(form: str | None, value: Any) -> None:
    time = {"path": "made"} if form is None else {"path": "made", "format": form}

    [event] = mapping(events={"time": time}).read(record({"price": 1, "made": value}), NOW)

    assert event.time == datetime(2025, 12, 31, 12, 0, 0, 250_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (1767182400250, "name its unit in the source, time: {path: made, format: ms}"),
        ("yesterday", "RFC 3339 time with an offset"),
        (None, "is missing in the record at made"),
        (True, "must be an RFC 3339 time"),
        ("2027-01-01T00:00:00Z", "must not be more than 300 s in the future"),
    ],
)
def test_a_time_that_cannot_be_read_says_why(value: Any, says: str) -> None:
    with pytest.raises(SourceRecordRejected, match="time") as refused:
        mapping(events={"time": "made"}).read(record({"price": 1, "made": value}), NOW)

    assert says in refused.value.detail


@pytest.mark.parametrize("value", [1e300, -1e300, 10**40, -(10**40)])
@pytest.mark.parametrize("form", ["s", "ms", "us", "ns", "days"])
def test_a_number_beyond_all_times_is_refused(form: str, value: Any) -> None:
    with pytest.raises(SourceRecordRejected, match="out of range"):
        mapping(events={"time": {"path": "made", "format": form}}).read(record({"price": 1, "made": value}), NOW)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (b"\xff\xfe\x00", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"price": NaN}', "not JSON"),
        (b'{"price": 1, "price": 2}', "there twice"),
        (b"[1]", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"price": "1.5"}', "data.price must be a finite number, is text (read from price)"),
        (b'{"cost": 1.5}', "data.price is missing; send a finite number (read from price)"),
        (b'{"price": 1e999}', "data.price"),
        (b'{"price": 1, "pad": "' + b"x" * 2_000 + b'"}', "the limit is 1,000"),
    ],
)
def test_a_bad_record_is_refused_with_field_and_fix(value: bytes, says: str) -> None:
    small = SourceLimits(max_event_bytes=1_000 if len(value) < 10_000 else 1_000_000)

    with pytest.raises(SourceRecordRejected) as refused:
        mapping(limits=small).read(record(value), NOW)

    assert says in refused.value.detail


def test_every_error_of_a_record_is_named() -> None:
    with pytest.raises(SourceRecordRejected) as refused:
        mapping(events={"id": "key", "entity": "who"}).read(record({"who": " ", "demand": "x"}), NOW)

    assert [e.field for e in refused.value.errors] == ["id", "entity", "data.price", "data.demand"]


def test_a_tombstone_says_nothing() -> None:
    assert mapping().read(record(None), NOW) == []
    assert mapping(format="debezium").read(record(None, key={"id": 1}), NOW) == []
    assert mapping(format="debezium").read(record(b'{"schema":null,"payload":null}'), NOW) == []


def test_labels_of_a_json_topic_name_the_prediction_and_the_value() -> None:
    labels = mapping(labels={"id": "order", "label": "paid", "time": {"path": "at", "format": "s"}})

    [label] = labels.read(record({"order": 17, "paid": 1, "at": 1_767_000_000}), NOW)

    assert isinstance(label, LabelReceived)
    assert (label.subject, label.data.prediction_id, label.data.kind, label.data.label) == ("17", "17", "label", True)
    assert label.time == datetime.fromtimestamp(1_767_000_000, UTC)
    assert label.data.received == WRITTEN


def test_a_topic_of_labels_alone_refuses_a_record_without_the_label_and_skips_one_where_it_is_null() -> None:
    labels = mapping(labels={"id": "order", "label": "paid"})

    assert labels.read(record({"order": 17, "paid": None}), NOW) == []
    with pytest.raises(SourceRecordRejected, match=r"label is missing; send true or false .* \(read from paid\)"):
        labels.read(record({"order": 17, "renamed": True}), NOW)


def test_a_record_with_a_wrong_label_gives_no_event_either() -> None:
    both = mapping(events={"id": "order"}, labels={"id": "order", "label": "paid"})

    assert len(both.read(record({**ORDER, "paid": True}), NOW)) == 2
    assert len(both.read(record(ORDER), NOW)) == 1
    with pytest.raises(SourceRecordRejected, match="label must be true or false"):
        both.read(record({**ORDER, "paid": "yes"}), NOW)


ROWS: dict[str, Any] = {"format": "debezium", "events": {"id": "after.id", "entity": "after.customer"}}
PAID = {"id": "after.id", "label": "after.paid"}


@pytest.mark.parametrize("op", ["c", "r"])
def test_a_row_that_debezium_reports_as_created_or_in_its_snapshot_is_an_event(op: str) -> None:
    [event] = mapping(**ROWS).read(change(op, AFTER), NOW)

    assert (event.id, event.subject) == ("7", "anna")
    assert event.data.fields == {"price": 1.5, "demand": 2.0}
    assert event.time.timestamp() * 1000 == WRITTEN_MS + 5


def test_updates_and_deletes_are_no_events_unless_the_source_asks_for_them() -> None:
    some, removed = mapping(**ROWS), mapping(format="debezium", events={"operations": ["delete"], "id": "before.id"})

    assert some.read(change("u", AFTER, AFTER), NOW) == []
    assert some.read(change("d", None, AFTER), NOW) == []
    assert some.read(record({"op": "t", "source": {}}), NOW) == []
    assert removed.read(change("c", AFTER), NOW) == []
    assert [e.data.fields["price"] for e in removed.read(change("d", None, AFTER), NOW)] == [1.5]


def test_a_column_that_becomes_known_is_a_label_in_whichever_change_it_is_seen() -> None:
    rows = mapping(**ROWS, labels=PAID)

    created = rows.read(change("c", AFTER), NOW)
    [label] = rows.read(change("u", AFTER | {"paid": True}, AFTER), NOW)
    snapshot = rows.read(change("r", AFTER | {"paid": False}), NOW)

    assert [type(e) for e in created] == [EventReceived]
    assert isinstance(label, LabelReceived)
    assert (label.subject, label.data.label) == ("7", True)
    assert [type(e) for e in snapshot] == [EventReceived, LabelReceived]


def test_a_renamed_label_column_is_refused_instead_of_giving_no_labels() -> None:
    renamed = {k: v for k, v in AFTER.items() if k != "paid"}

    with pytest.raises(SourceRecordRejected, match="label is missing"):
        mapping(**ROWS, labels=PAID).read(change("u", renamed), NOW)


def test_a_row_without_a_mapped_id_is_one_event_however_often_it_is_reported() -> None:
    rows = mapping(format="debezium")

    [created] = rows.read(change("c", AFTER, offset=1), NOW)
    [snapshot] = rows.read(change("r", AFTER, offset=9, lsn=5, snapshot="true"), NOW)
    [another] = rows.read(change("c", AFTER | {"id": 8}, offset=2), NOW)

    assert snapshot.id == created.id
    assert another.id != created.id


def test_each_update_is_an_event_of_its_own_and_the_same_when_the_connector_sends_it_again() -> None:
    updates = mapping(format="debezium", events={"operations": ["create", "update"]})

    [created] = updates.read(change("c", AFTER), NOW)
    [first] = updates.read(change("u", AFTER, offset=1, lsn=100), NOW)
    [again] = updates.read(change("u", AFTER, offset=8, lsn=100), NOW)
    [second] = updates.read(change("u", AFTER, offset=2, lsn=200), NOW)

    assert first.id == again.id
    assert len({created.id, first.id, second.id}) == 3


def test_rows_of_a_table_without_a_key_are_told_apart_by_their_place_on_the_topic() -> None:
    keyless, row = mapping(format="debezium"), {"price": 1.0}

    ids = {e.id for offset in (1, 2, 2) for e in keyless.read(change("c", row, offset=offset), NOW)}

    assert len(ids) == 2


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("io.debezium.time.MicroTimestamp", 1767182400250000),
        ("io.debezium.time.Timestamp", 1767182400250),
        ("io.debezium.time.NanoTimestamp", 1767182400250000000),
        ("org.apache.kafka.connect.data.Timestamp", 1767182400250),
        ("io.debezium.time.ZonedTimestamp", "2025-12-31T12:00:00.250Z"),
    ],
)
@pytest.mark.parametrize("pretty", [False, True])
def test_the_schema_of_a_record_says_how_its_times_are_written(kind: str, value: Any, pretty: bool) -> None:
    payload = {"before": None, "after": AFTER | {"made": value}, "source": {}, "op": "c"}
    whole = enveloped(payload, made=kind)
    raw = json.dumps(json.loads(whole), indent=1).encode() if pretty else whole

    [event] = mapping(format="debezium", events={"time": "after.made"}).read(record(raw), NOW)

    assert event.time == datetime(2025, 12, 31, 12, 0, 0, 250_000, tzinfo=UTC)


def test_the_key_of_a_row_is_the_same_with_and_without_its_schema() -> None:
    rows = mapping(format="debezium")
    payload = {"after": AFTER, "source": {}, "op": "c"}
    with_schema = record(enveloped(payload), key=b'{"schema":{"type":"struct"},"payload":{"id":7}}')

    [enveloped_event] = rows.read(with_schema, NOW)
    [plain_event] = rows.read(record(payload, key={"id": 7}), NOW)

    assert enveloped_event.id == plain_event.id


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"after": AFTER}, "op must be c, u, d or r"),
        ({"after": AFTER, "op": ["c"]}, "op must be c, u, d or r"),
        ({"after": AFTER, "op": {}}, "op must be c, u, d or r"),
        ({"after": None, "op": "c"}, "data.price is missing"),
        ({"after": [], "op": "c"}, "data.price is missing"),
        ({"after": AFTER | {"price": "AfA="}, "op": "c"}, "decimal.handling.mode=double"),
        (b'{"schema":{},"payload":{"op":"c","op":"u"}}', "there twice"),
        (b'{"schema":{},"payload":[1]}', "must be a JSON object"),
        (b'{"schema":{"a":1,"a":2},"payload":{}}', "there twice"),
        (b'{"schema":', "not JSON"),
        (b'{"schema":{},"payload":' + b"[" * 5_000, "not JSON"),
    ],
)
def test_a_change_event_of_another_shape_is_refused_with_the_fix(value: Any, says: str) -> None:
    with pytest.raises(SourceRecordRejected) as refused:
        mapping(format="debezium").read(record(value), NOW)

    assert says in refused.value.detail


PLACED = {
    "specversion": "1.0",
    "id": "ce-1",
    "source": "/shop",
    "type": "order.placed",
    "subject": "anna",
    "time": "2025-12-31T12:00:00Z",
    "data": {"price": 1.5},
}
BINARY = {"ce_" + name: value.encode() for name, value in PLACED.items() if isinstance(value, str)}
STRUCTURED = {"content-type": b"application/cloudevents+json; charset=UTF-8"}


@pytest.mark.parametrize(
    "sent",
    [
        record(PLACED, headers=STRUCTURED),
        record(PLACED),
        record(PLACED, headers={"content-type": b"application/json"}),
        record(PLACED["data"], headers=BINARY | {"content-type": b"application/json"}),
        record(PLACED["data"], headers=BINARY),
    ],
    ids=["structured", "structured, unsaid", "structured as JSON", "binary", "binary, unsaid"],
)
def test_a_cloudevent_is_an_event_in_either_mode(sent: Record) -> None:
    [event] = mapping(format="cloudevents").read(sent, NOW)

    assert isinstance(event, EventReceived)
    assert (event.id, event.subject, event.time) == ("ce-1", "anna", datetime(2025, 12, 31, 12, tzinfo=UTC))
    assert event.data.fields == {"price": 1.5, "demand": None}


def test_a_cloudevent_of_another_type_is_for_somebody_else_and_one_type_may_be_the_label() -> None:
    both = mapping(format="cloudevents", events={"types": ["order.placed"]}, labels={"types": ["order.paid"]})
    paid = PLACED | {"type": "order.paid", "id": "ce-2", "subject": "ce-1", "data": {"label": True}}

    placed, [label], other = (both.read(record(e), NOW) for e in (PLACED, paid, PLACED | {"type": "order.sent"}))

    assert [type(e) for e in placed] == [EventReceived]
    assert isinstance(label, LabelReceived)
    assert (label.subject, label.data.label) == ("ce-1", True)
    assert other == []


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        (record({k: v for k, v in PLACED.items() if k != "id"}), "id is missing"),
        (record(PLACED | {"specversion": "0.3"}), 'must be "1.0"'),
        (record(PLACED, headers={"content-type": b"application/cloudevents-batch+json"}), "one CloudEvent in each"),
        (record(b"\x00", headers=BINARY | {"content-type": b"application/avro"}), "send the data as JSON"),
        (record(b"{", headers=BINARY), "data is not JSON"),
        (record({"price": 1}, headers=BINARY | {"ce_time": b"\xff"}), "ce_time is not UTF-8"),
        (record({"price": 1}), "specversion is missing"),
        (record(PLACED | {"time": "noon"}), "RFC 3339"),
        (record(PLACED | {"data": None}), "data.price is missing; send a finite number (read from data.price)"),
    ],
)
def test_a_record_that_is_no_cloudevent_is_refused_with_the_fix(sent: Record, says: str) -> None:
    with pytest.raises(SourceRecordRejected) as refused:
        mapping(format="cloudevents").read(sent, NOW)

    assert says in refused.value.detail


@pytest.mark.parametrize("form", ["json", "cloudevents", "debezium"])
@given(
    value=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(st.sampled_from(["op", "after", "source", "id", "price", "schema", "payload"]), inner)
            ),
            max_leaves=10,
        ).map(lambda v: json.dumps(v).encode()),
    ),
    key=st.none() | st.binary(max_size=20),
    headers=st.lists(st.tuples(st.sampled_from(["ce_id", "ce_specversion", "content-type"]), st.binary(max_size=10))),
)
def test_whatever_a_record_holds_it_is_read_or_refused(
    form: Any, value: bytes, key: bytes | None, headers: list[tuple[str, bytes]]
) -> None:
    source = mapping(format=form, events={}, labels={"id": "id", "label": "after.price"})

    refusal: list[FieldError] | None = None
    events: list[Event] = []
    try:
        events = source.read(Record(Position("orders", 0, 1, -1), key, value, headers), NOW)
    except SourceRecordRejected as e:
        refusal = e.errors

    assert refusal != []
    assert all(error.field and error.error for error in refusal or ())
    assert all(event.encode() for event in events)


def test_a_record_that_is_not_as_the_loop_expects_is_a_dead_letter_with_the_reason() -> None:
    expect = [{"field": "price", "between": [0, 10], "then": "dead_letter"}, {"field": "demand", "between": [0, 1]}]
    orders = mapping({"expect": expect})

    [accepted] = orders.read(record({"price": 1.5, "demand": 9}), NOW)
    with pytest.raises(SourceRecordRejected) as refused:
        orders.read(record({"price": 11}), NOW)

    assert accepted.loop == "market"
    assert "price" in refused.value.detail
    assert "is expected to be between 0 and 10" in refused.value.detail
    assert refused.value.unexpected == ["price.between"]
