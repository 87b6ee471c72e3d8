"""What can be wrong with an event, a label, or a question."""

from __future__ import annotations

from everloop_shared.errors import NotFound, Rejected


class EntityNotFound(NotFound):
    """No observation of this entity has come by."""

    title = "Entity not found"


class StateTooLarge(Rejected):
    """An entity's state would not fit a record any more; shorten the windows or the strings in them."""

    title = "State too large"


class LabelTooLate(Rejected):
    """The label's own time is later than the loop's `label.within` after the observation."""

    title = "Label too late"


class TimeOutOfBounds(Rejected):
    """The time of an event or a label lies further in the future, or in the past, than the settings allow."""

    title = "Time out of bounds"


class PredictionNeverCame(Rejected):
    """No prediction with this id came within the loop's `label.within`."""

    title = "Prediction never came"


class LabelCrowdedOut(Rejected):
    """A label that waited for its prediction had to make room: more came for ids that nobody predicted."""

    title = "Label crowded out"


class NothingToLearn(Rejected):
    """Feedback that says neither what was right, nor of a class that it was wrong."""

    title = "Feedback says nothing"


class IdTaken(Rejected):
    """Another observation of the entity came under this id before, with other data."""

    http_status = 409
    title = "Id taken"


class RecordRejected(Rejected):
    """An observation or a label that no door would have let in: another producer wrote it."""

    title = "Record does not fit its loop"
