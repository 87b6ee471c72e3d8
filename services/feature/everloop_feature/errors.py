"""What can be wrong with an event, a label, or a request."""

from __future__ import annotations

from everloop_shared.errors import NotFound, Rejected


class EntityNotFound(NotFound):
    """No observation of this entity was received."""

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
    """A label that waited for its prediction was evicted: too many came for ids without a prediction."""

    title = "Label crowded out"


class NothingToLearn(Rejected):
    """Feedback that neither gives the label nor rules out a class of the loop."""

    title = "Feedback says nothing"


class RecordRejected(Rejected):
    """An observation or a label that no endpoint would have accepted: another producer wrote it."""

    title = "Record does not fit its loop"
