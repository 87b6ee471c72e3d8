"""Holds what lies on the topics to what the doors let in, whoever wrote it: what does not fit is never used."""

from __future__ import annotations

from everloop_feature.errors import RecordRejected
from everloop_feature.loops import Loops
from everloop_features.labels import Word, fits, open_to_any_revision, spelt, word
from everloop_features.observation import adapt, validate
from everloop_schemas.envelope import Fields, Scalar
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.loop import LoopSpec
from everloop_schemas.names import ID_RULE, is_id
from everloop_schemas.serving import ObservationReceived
from everloop_shared.errors import FieldError


def observed(loops: Loops, event: EventReceived | ObservationReceived) -> Fields:
    """The fields of an observation that fits its loop; raises RecordRejected, or LoopNotKnownYet."""
    spec, data = loops.spec(event.loop, event.revision), event.data
    fields = validate(spec, data.fields)
    if isinstance(fields, list):
        fields = _as_of(loops, spec, event, fields)
    names_fit = event.subject == data.entity and is_id(event.id) and is_id(event.subject)
    if names_fit and not isinstance(fields, list):
        return fields
    wrong = [FieldError(name, f"must be {ID_RULE}") for name in ("id", "subject") if not is_id(getattr(event, name))]
    if event.subject != data.entity:
        wrong.append(FieldError("data.entity", "is not the subject; name one entity in both"))
    raise _refused(wrong + (fields if isinstance(fields, list) else []))


def labelled(loops: Loops, event: LabelReceived) -> LabelReceived:
    """A label or feedback that fits its loop, in the one spelling; raises RecordRejected, or LoopNotKnownYet."""
    spec, data = loops.spec(event.loop, event.revision), event.data
    one_name = event.subject == data.prediction_id and is_id(event.subject)
    if one_name and data.kind == "label" and data.label is not None and spelt(spec, data.label):
        return event  # nearly always: what follows is for what is left
    body = {"id": data.prediction_id, "label": data.label}
    if data.kind == "feedback":
        body |= {"correct": data.correct, "comment": data.comment, "source": data.source}
    said = word(spec, data.kind, body)
    if isinstance(said, list) and _is_earlier(loops, event.loop, event.revision):
        said = word(loops.earlier(event.loop, event.revision) or open_to_any_revision(spec), data.kind, body)
    wrong = said if isinstance(said, list) else []
    if event.subject != data.prediction_id:
        wrong = [*wrong, FieldError("data.prediction_id", "is not the subject; name one prediction in both")]
    if wrong or not isinstance(said, Word):
        raise _refused(wrong)
    if type(said.label) is type(data.label):
        return event
    return event.model_copy(update={"data": data.model_copy(update={"label": said.label})})


def is_label(loops: Loops, loop: str, revision: int, label: Scalar) -> bool:
    """Whether a loop may learn this label, which was said of a prediction of that revision."""
    spec = loops.spec(loop)
    return fits(spec, label) or (_is_earlier(loops, loop, revision) and fits(open_to_any_revision(spec), label))


def _as_of(
    loops: Loops, spec: LoopSpec, event: EventReceived | ObservationReceived, wrong: list[FieldError]
) -> Fields | list[FieldError]:
    """What a record that does not fit the spec says by an earlier revision, under which a door let it in."""
    if not _is_earlier(loops, event.loop, event.revision):
        return wrong
    earlier = loops.earlier(event.loop, event.revision)
    if earlier is not None and isinstance(then := validate(earlier, event.data.fields), list):
        return then
    return adapt(spec, event.data.fields)


def _is_earlier(loops: Loops, loop: str, revision: int) -> bool:
    return 1 <= revision < (loops.revision(loop) or 0)


def _refused(wrong: list[FieldError]) -> RecordRejected:
    return RecordRejected("; ".join(f"{e.field}: {e.error}" for e in wrong), wrong)
