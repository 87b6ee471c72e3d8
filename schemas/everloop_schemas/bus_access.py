"""Who writes and reads which topic: what Kafka's access control lists are made of.

A service writes the topics that it owns, and that of the audit, which all write and none reads; what it reads is in
`READS`. A test compares both with the routes and the readers of the six services. Nobody may alter or delete a topic or
its records, which makes the audit append-only: no service has ALTER, ALTER_CONFIGS or DELETE anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from everloop_schemas.catalogue import TOPICS
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.envelope import ALL_SERVICES, Event
from everloop_schemas.erasure import EntityErased, EntityErasureDone
from everloop_schemas.feature import EntityState, FeaturesComputed, LabelJoined, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.monitoring import DeadLetterSent, DriftDetected, EvaluationUpdated
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.retention import is_record
from everloop_schemas.search import SearchFinished, SearchRequested, TrialFinished
from everloop_schemas.serving import ObservationReceived, PredictionMade, VersionState
from everloop_schemas.topology import SERVICES
from everloop_schemas.tracking import RunLogged
from everloop_schemas.training import ChallengeUpdated, LineFailed, ModelTrained, RunFinished, RunRequested

_READ_EVENTS: dict[str, tuple[type[Event], ...]] = {
    "ingest": (LoopState,),
    "feature": (
        LoopState,
        EventReceived,
        LabelReceived,
        ObservationReceived,
        PredictionMade,
        LabelJoined,
        EntityErased,
        FeaturesComputed,  # these are read for exports about a person
        EntityState,
        OutcomeObserved,
        EntityErasureDone,
        *(DEAD_LETTERS[service] for service in ("ingest", "feature", "serving")),
    ),
    "training": (
        LoopState,
        OutcomeObserved,
        PredictionMade,
        DriftDetected,
        RunRequested,
        RunFinished,
        SearchRequested,
        TrialFinished,
        SearchFinished,
    ),
    "registry": (
        RunRequested,
        RunFinished,
        ModelTrained,
        ChallengeUpdated,
        DriftDetected,
        EvaluationUpdated,
        VersionState,
        Decided,
        RunLogged,
        EntityErasureDone,
    ),
    "serving": (LoopState, FeaturesComputed, EntityState, OutcomeObserved, PredictionMade, EntityErasureDone),
    "monitoring": (
        LoopState,
        EventReceived,
        ObservationReceived,
        PredictionMade,
        OutcomeObserved,
        Decided,
        RunRequested,
        RunFinished,
        SearchRequested,
        SearchFinished,
        LineFailed,
        ModelTrained,
        VersionState,
        DeadLetterSent,
        *DEAD_LETTERS.values(),
    ),
}
READS = {service: frozenset(event.topic.name for event in events) for service, events in _READ_EVENTS.items()}
"""The topics that each service reads, its own included."""
CHANGELOGS: dict[str, tuple[str, ...]] = {"feature": ("feature.entities.changelog", "feature.joins.changelog")}
"""The topics of keyed state, which their service writes and reads."""
SOURCE_GROUPS = "ingest.source."
"""What the names of the groups of ingest's Kafka sources begin with."""

Operation = Literal["READ", "WRITE", "CREATE", "DESCRIBE_CONFIGS", "ALTER_CONFIGS"]


class Grant(NamedTuple):
    """One thing that a service may do on the cluster; what is granted nowhere is refused (`StandardAuthorizer`).

    `kind` is that of the resource, `name` is without the topic prefix; with `prefixed` it is what names begin with.
    """

    service: str
    kind: Literal["TOPIC", "GROUP"]
    name: str
    operation: Operation
    prefixed: bool = False


def grants(service: str) -> Iterator[Grant]:
    """All that a service needs. READ and WRITE include DESCRIBE.

    A service creates what it writes and what it reads, as it may be the first to start, and checks the shape of both.
    It sets how long its own topics are kept (EVERLOOP_RETENTION), but for those that are the record.
    Producers are idempotent, which WRITE includes since Kafka 2.8 (KIP-679); there are no transactions.
    """
    changelogs = CHANGELOGS.get(service, ())
    written = {topic.name for topic in TOPICS.values() if topic.owner in (service, ALL_SERVICES)} | set(changelogs)
    read = READS[service] | set(changelogs)
    for topic in sorted(written | read):
        if topic in read:
            yield Grant(service, "TOPIC", topic, "READ")
        if topic in written:
            yield Grant(service, "TOPIC", topic, "WRITE")
        if topic in written and topic in TOPICS and not is_record(TOPICS[topic]):
            yield Grant(service, "TOPIC", topic, "ALTER_CONFIGS")
        yield Grant(service, "TOPIC", topic, "CREATE")
        yield Grant(service, "TOPIC", topic, "DESCRIBE_CONFIGS")
    yield Grant(service, "GROUP", service, "READ")
    if service == "ingest":
        yield Grant(service, "GROUP", SOURCE_GROUPS, "READ", prefixed=True)


def all_grants() -> list[Grant]:
    """Those of all services."""
    return [grant for service in SERVICES for grant in grants(service)]
