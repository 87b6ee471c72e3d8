"""Errors of models: of their spec, their predictions and their artifacts."""

from __future__ import annotations

from everloop_shared.errors import Disposition, FieldError, ServiceError, Unavailable

_OUT_OF_MEMORY = ("bad_alloc", "cannot allocate", "unable to allocate", "out of memory", "failed to allocate")
"""What libraries say where they raise something else than MemoryError."""


NOT_TOLD = "what it said is not told, as it may name personal values"
"""In place of the text of an error at personal values: reasons are published and logged."""


class ModelSpecInvalid(ValueError):
    """A model that cannot be built; `errors` name the field (`models.0.estimator`) and the fix."""

    def __init__(self, field: str, error: str) -> None:
        super().__init__(f"{field}: {error}")
        self.field, self.error = field, error
        self.errors = [FieldError(field, error)]


class ModelBroken(ServiceError):
    """A model raised, or predicted what is not finite: it may be neither served nor stored."""

    disposition = Disposition.CRASH
    title = "Model broken"


class ArtifactCorrupt(ServiceError):
    """An artifact's bytes are not those that were saved, or ask for what no model needs. A retry does not help."""

    disposition = Disposition.DEAD_LETTER
    title = "Artifact corrupt"


class ArtifactUntrusted(ArtifactCorrupt):
    """No trusted key vouches for an artifact: it is not signed, or not by one that may sign artifacts."""

    title = "Artifact not trusted"


class FormatUnavailable(ArtifactCorrupt):
    """A model's format is not part of this release, or its library is not installed here."""

    title = "Model format unavailable"


class ArtifactUnavailable(Unavailable):
    """The artifact store cannot be written or read now: it is full, read-only, or cannot be reached."""

    title = "Artifact store unavailable"


class ArtifactMissing(ArtifactUnavailable):
    """The store has no artifact of this name; a store that is not mounted says so too."""


class WorkersUnfit(ServiceError):
    """Workers of a Ray cluster have other packages than this service, so that they could come to other results."""

    disposition = Disposition.CRASH
    title = "Ray's workers have other packages"


def lacks_memory(reason: str) -> bool:
    """Whether a library says that there was too little memory."""
    return any(text in reason.lower() for text in _OUT_OF_MEMORY)
