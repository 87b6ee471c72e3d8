"""What can keep a backup or a restore from finishing, each with the fix."""

from __future__ import annotations

from everloop.local.errors import InstallationError


class BackupExists(InstallationError):
    """The folder for the backup is not empty."""


class BackupFailed(InstallationError):
    """The backup cannot be finished; none of its files are left."""


class BackupDamaged(InstallationError):
    """A file of the backup is missing, or differs from the manifest."""


class BackupUntrusted(InstallationError):
    """No trusted key has signed the backup."""


class NotEmpty(InstallationError):
    """The folder or the cluster is not empty: a restore would mix with what is there."""


class RestoreFailed(InstallationError):
    """The restore cannot be finished."""
