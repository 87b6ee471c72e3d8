"""What can be wrong with an event, a label, or a request."""

from __future__ import annotations

from everloop_shared.errors import InputRejected, NotFound, Overloaded, Unavailable


class EntityNotFound(NotFound):
    """No observation of this entity was received."""

    title = "Entity not found"


class EntityElsewhere(Unavailable):
    """The entity's partition belongs to another replica, or its state is still being read."""

    title = "Entity elsewhere"


class StateTooLarge(InputRejected):
    """An entity's state would not fit a record any more; shorten the windows or the strings in them."""

    title = "State too large"


class LabelTooLate(InputRejected):
    """The label's own time is later than the loop's `label.within` after the observation."""

    title = "Label too late"


class TimeOutOfBounds(InputRejected):
    """The time of an event or a label lies further in the future, or in the past, than the settings allow."""

    title = "Time out of bounds"


class PredictionNeverCame(InputRejected):
    """No prediction with this id came within the loop's `label.within`."""

    title = "Prediction never came"


class LabelCrowdedOut(InputRejected):
    """A label that waited for its prediction was evicted: too many came for ids without a prediction."""

    title = "Label crowded out"


class NothingToLearn(InputRejected):
    """Feedback that neither gives the label nor rules out a class of the loop."""

    title = "Feedback gives no label"


class RecordRejected(InputRejected):
    """An observation or a label that no endpoint would have accepted: another producer wrote it."""

    title = "Record does not fit its loop"


class ExportsBusy(Overloaded):
    """As many exports about persons are running as may run at once."""

    title = "Exports are running"


class EntityNameRejected(InputRejected):
    """No entity can have this name."""

    title = "No name of an entity"
