"""What can go wrong in serving, each with what the door answers and what the engine does."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, InputRejected, NotFound, Overloaded, Unavailable


class PredictionNotFound(NotFound):
    """The prediction was never made here, or it is too long ago to be remembered."""

    title = "Prediction not found"


class ModelLoading(Unavailable):
    """The loop's champion is still being loaded for the first time in this process."""

    title = "Model loading"


class ObservationRejected(InputRejected):
    """The body is no observation of this loop; `errors` name the fields."""

    title = "Observation does not fit the loop's schema"


class VectorRejected(InputRejected):
    """Features that are not the loop's: a model would fail at them, and be blamed for it."""

    title = "Vector does not fit its loop"


class SpoolFull(Overloaded):
    """The bus has been away for so long that the spool holds all it may."""

    title = "Spool full"
    retry_after = 5.0


class SpoolUnwritable(Unavailable):
    """The disk refuses the record: full, read-only or broken."""

    title = "Spool unwritable"
    retry_after = 5.0


class RecordTooLarge(InputRejected):
    """What would go on the bus is over the size of an event."""

    kind = ErrorKind.TOO_LARGE
    title = "Content too large"


class Superseded(Exception):
    """A version is not live any more before it could be loaded: nothing is wrong with it."""
