"""Failures of the archive."""

from __future__ import annotations

from everloop_shared.errors import ErrorKind, ServiceError, Unavailable


class ArchiveUnavailable(Unavailable):
    """The archive's store cannot be reached, is full, or refuses what is asked."""

    title = "Archive unavailable"


class ArchiveCorrupt(ServiceError):
    """What lies in the archive is not what was written there."""

    kind = ErrorKind.INTERNAL
    title = "Archive corrupt"


class CommitConflict(Exception):
    """Another writer has made a commit of this version; read the log again."""


class PositionMoved(Exception):
    """Another writer archives this partition, or has changed the table's columns; open the partition again."""
