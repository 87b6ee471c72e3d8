"""What can keep a local installation from running, each with the fix."""

from everloop.errors import EverloopError


class InstallationError(EverloopError):
    """A fact and its fix, both for people to read."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}\n{fix}" if fix else what)
        self.what = what
        self.fix = fix


class KafkaNotFetched(InstallationError):
    """The broker's jars are neither in the cache nor can they be downloaded."""


class JavaNotFound(InstallationError):
    """The Java runtime, which is a package, is not installed or does not run on this machine."""


class BrokerNotReady(InstallationError):
    """The broker ended, or did not answer in time."""


class FolderNotWritable(InstallationError):
    """The data folder, or the cache, cannot be written."""


class PortInUse(InstallationError):
    """Another program listens on the port of a service."""


class InstallationRunsAlready(InstallationError):
    """Another supervisor holds the lock of the folder."""


class InstallationNotFound(InstallationError):
    """Neither services.json nor the environment has the address of a service.

    >>> from everloop import Everloop, InstallationNotFound
    >>> with Everloop("/nowhere") as everloop:
    ...     try:
    ...         everloop.predict("market", {"price": 3.0})
    ...     except InstallationNotFound as error:
    ...         print(error.what)
    No local installation at /nowhere.
    """


class InstallationNotReady(InstallationError):
    """A service did not become ready in time."""
