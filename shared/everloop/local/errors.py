"""What can keep the installation from standing, each with the way out."""


class InstallationError(Exception):
    """A fact and its fix, both meant to be read by a person."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}\n{fix}" if fix else what)
        self.what = what
        self.fix = fix


class KafkaNotFetched(InstallationError):
    """The broker's jars are neither in the cache nor to be had."""


class JavaNotFound(InstallationError):
    """The Java runtime, which comes as a package, is not there or does not run on this machine."""


class BrokerNotReady(InstallationError):
    """The broker ended, or did not answer in time."""


class FolderNotWritable(InstallationError):
    """The data folder, or the cache, cannot be written."""


class PortInUse(InstallationError):
    """Somebody else listens where a service should."""


class InstallationRunsAlready(InstallationError):
    """Another supervisor holds the folder."""


class InstallationNotFound(InstallationError):
    """No services.json and no address in the environment."""


class InstallationNotReady(InstallationError):
    """A service of the installation did not become ready in time."""
