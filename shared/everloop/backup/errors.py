"""What keeps a backup from being made or put back, each with the way out."""

from __future__ import annotations

from everloop.house.errors import HouseError


class BackupExists(HouseError):
    """The folder for the backup holds something already."""


class BackupFailed(HouseError):
    """The backup cannot be finished; nothing of it is left."""


class BackupDamaged(HouseError):
    """A file of the backup is missing, or is not what the manifest says."""


class NotEmpty(HouseError):
    """The restore would mix with what is there already."""


class RestoreFailed(HouseError):
    """The restore cannot be finished."""
