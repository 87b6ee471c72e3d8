"""What keeps a backup from being made or put back, each with the way out."""

from __future__ import annotations

from everloop.local.errors import InstallationError


class BackupExists(InstallationError):
    """The folder for the backup holds something already."""


class BackupFailed(InstallationError):
    """The backup cannot be finished; nothing of it is left."""


class BackupDamaged(InstallationError):
    """A file of the backup is missing, or is not what the manifest says."""


class NotEmpty(InstallationError):
    """The restore would mix with what is there already."""


class RestoreFailed(InstallationError):
    """The restore cannot be finished."""
