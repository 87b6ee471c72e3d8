"""What can keep the house from standing, each with the way out."""


class HouseError(Exception):
    """A fact and its fix, both meant to be read by a person."""

    def __init__(self, what: str, fix: str = "") -> None:
        super().__init__(f"{what}\n{fix}" if fix else what)
        self.what = what
        self.fix = fix


class KafkaNotFetched(HouseError):
    """The broker's jars are neither in the cache nor to be had."""


class JavaNotFound(HouseError):
    """The Java runtime, which comes as a package, is not there or does not run on this machine."""


class BrokerNotReady(HouseError):
    """The broker ended, or did not answer in time."""


class FolderNotWritable(HouseError):
    """The data folder, or the cache, cannot be written."""


class PortInUse(HouseError):
    """Somebody else listens where a service should."""


class HouseRunsAlready(HouseError):
    """Another supervisor holds the folder."""


class HouseNotFound(HouseError):
    """No services.json and no address in the environment."""


class HouseNotReady(HouseError):
    """A service of the house did not become ready in time."""
