"""Checks records on the topics by the rules of the HTTP endpoints, whoever wrote them."""

from __future__ import annotations

from msgspec.structs import replace

from everloop_feature.domain.loops import ActiveLoop
from everloop_feature.errors import RecordRejected
from everloop_features.labels import CheckedLabel, check_label, is_normalised_label, widen_label_rules
from everloop_features.observation import adapt_fields, check_fields
from everloop_schemas.envelope import Fields
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.names import ID_RULE, is_id
from everloop_schemas.serving import ObservationReceived
from everloop_shared.errors import FieldError


def admit_observation(loop: ActiveLoop, event: EventReceived | ObservationReceived) -> Fields:
    """The fields of an observation that fits its loop; raises RecordRejected."""
    data = event.data
    fields = check_fields(loop.spec, data.fields)
    if isinstance(fields, list):
        fields = _fields_of_earlier_revision(loop, event, fields)
    ids_fit = event.subject == data.entity and is_id(event.id) and is_id(event.subject)
    if ids_fit and not isinstance(fields, list):
        return fields
    wrong = [FieldError(name, f"must be {ID_RULE}") for name in ("id", "subject") if not is_id(getattr(event, name))]
    if event.subject != data.entity:
        wrong.append(FieldError("data.entity", "is not the subject; name one entity in both"))
    raise _rejected(wrong + (fields if isinstance(fields, list) else []))


def admit_label(loop: ActiveLoop, event: LabelReceived) -> LabelReceived:
    """A label or feedback that fits its loop, its label in the loop's type; raises RecordRejected."""
    spec, data = loop.spec, event.data
    ids_fit = event.subject == data.prediction_id and is_id(event.subject)
    if ids_fit and data.kind == "label" and data.label is not None and is_normalised_label(spec, data.label):
        return event  # nearly every label ends here: the checks below take longer
    body = {"id": data.prediction_id, "label": data.label}
    if data.kind == "feedback":
        body |= {"correct": data.correct, "comment": data.comment, "source": data.source}
    checked = check_label(spec, data.kind, body)
    if isinstance(checked, list) and loop.is_earlier(event.revision):
        checked = check_label(loop.earlier.get(event.revision) or widen_label_rules(spec), data.kind, body)
    wrong = checked if isinstance(checked, list) else []
    if event.subject != data.prediction_id:
        wrong = [*wrong, FieldError("data.prediction_id", "is not the subject; name one prediction in both")]
    if wrong or not isinstance(checked, CheckedLabel):
        raise _rejected(wrong)
    if type(checked.label) is type(data.label):
        return event
    return event.copy_with(data=replace(data, label=checked.label))


def _fields_of_earlier_revision(
    loop: ActiveLoop, event: EventReceived | ObservationReceived, wrong: list[FieldError]
) -> Fields | list[FieldError]:
    """The fields of an observation that was accepted under an earlier revision, adapted to the latest.

    `wrong` where it carries no earlier revision; what that revision refuses where its spec is still known.
    """
    if not loop.is_earlier(event.revision):
        return wrong
    earlier = loop.earlier.get(event.revision)
    if earlier is not None and isinstance(wrong_then := check_fields(earlier, event.data.fields), list):
        return wrong_then
    return adapt_fields(loop.spec, event.data.fields)


def _rejected(wrong: list[FieldError]) -> RecordRejected:
    return RecordRejected("; ".join(f"{e.field}: {e.error}" for e in wrong), wrong)
