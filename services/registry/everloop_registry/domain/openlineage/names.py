"""The names of data sets by OpenLineage's rules (https://openlineage.io/docs/spec/naming): where data lies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from everloop_schemas.envelope import Topic
from everloop_schemas.feature import OutcomeObserved

SCHEMES = {"s3a": "s3", "s3n": "s3", "gcs": "gs"}
"""Other schemes of URLs of the same stores."""
DEFAULT_KAFKA_PORT = 9092


class DataSetName(NamedTuple):
    """What identifies a data set everywhere: its source, and its name there."""

    namespace: str
    name: str


def name_of_url(url: str) -> DataSetName:
    """The name of a file or a folder: `file` and its path, or the store's URL and the key.

    >>> name_of_url("s3://models/everloop/models/churn")
    DataSetName(namespace='s3://models', name='everloop/models/churn')
    >>> name_of_url("file:///var/lib/everloop/models/churn")
    DataSetName(namespace='file', name='/var/lib/everloop/models/churn')
    """
    parts = urlsplit(url)
    if parts.scheme in ("", "file", "local"):
        return DataSetName("file", unquote(parts.path).rstrip("/") or "/")
    user, _, host = parts.netloc.rpartition("@")
    authority = host if ":" in user else parts.netloc  # abfss has CONTAINER@ACCOUNT, others credentials
    return DataSetName(f"{SCHEMES.get(parts.scheme, parts.scheme)}://{authority}", parts.path.strip("/") or "/")


@dataclass(frozen=True)
class DataSetNames:
    """The names of an installation's data sets.

    `kafka_bootstrap` and `topic_prefix` are its settings, `archive` is the URL of the archive or empty.
    """

    kafka_bootstrap: str
    topic_prefix: str = ""
    archive: str = ""

    def topic(self, topic: Topic) -> DataSetName:
        """A topic: `kafka://HOST:PORT` of the first broker that is named, and the topic's name with its prefix."""
        host, _, port = self.kafka_bootstrap.split(",")[0].strip().rpartition(":")
        if not host:
            host, port = port, str(DEFAULT_KAFKA_PORT)
        return DataSetName(f"kafka://{host}:{port}", f"{self.topic_prefix}{topic.name}")

    def models(self, artifact_uri: str) -> DataSetName:
        """The folder of a loop's artifacts, in which each version is a file."""
        return name_of_url(artifact_uri.rpartition("/")[0])

    def archived_outcomes(self, loop: str) -> DataSetName | None:
        """The Delta table that holds a loop's outcomes; None without an archive."""
        return name_of_url(f"{self.archive.rstrip('/')}/outcomes/loop={loop}") if self.archive else None


OUTCOMES = OutcomeObserved.topic
"""What models learn from."""
