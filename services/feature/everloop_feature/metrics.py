"""What feature measures."""

from __future__ import annotations

from functools import cache

from prometheus_client import Counter, Gauge

from everloop_shared.metrics import PERSONAL_ERASED

DUPLICATES = Counter("everloop_feature_duplicates_total", "Observations dropped: their id came before.", ["loop"])
IDS_TAKEN = Counter(
    "everloop_feature_ids_taken_total", "Observations rejected: their id came before with other data.", ["loop"]
)
VECTORS = Counter("everloop_feature_vectors_total", "Vectors computed for observations that ingest accepted.", ["loop"])
OUTCOMES = Counter("everloop_feature_outcomes_total", "Outcomes by kind: label, feedback.", ["loop", "kind"])
UNJOINED = Counter(
    "everloop_feature_unjoined_total",
    "Given up by reason: late (label), never_came (its prediction), evicted (prediction without a label), "
    "crowded_out (label that waited for its prediction).",
    ["loop", "reason"],
)
JOINS = Gauge(
    "everloop_feature_joins",
    "Predictions, and labels that wait for one, by partition and table; limits: MAX_JOINS, MAX_WAITING.",
    ["partition", "table"],
)
JOIN_BYTES = Gauge(
    "everloop_feature_join_bytes",
    "Their bytes, by partition and table; limits: MAX_JOIN_BYTES, MAX_WAITING_BYTES.",
    ["partition", "table"],
)
ENTITIES = Gauge("everloop_feature_entities", "Entities by partition; limit: MAX_ENTITIES.", ["partition"])
ENTITY_BYTES = Gauge(
    "everloop_feature_entity_bytes", "Bytes of entities by partition; limit: MAX_ENTITY_BYTES.", ["partition"]
)
FORGOTTEN = Counter(
    "everloop_feature_forgotten_total", "Entities evicted beyond MAX_ENTITIES, or deleted with their loop.", ["loop"]
)

ERASED = Counter(
    "everloop_feature_erased_entities_total", "Entities forgotten, by cause: person, retention.", ["loop", "cause"]
)


@cache
def _series(counter: Counter, *labels: str) -> Counter:
    """The series of these labels; to find it takes five times as long as to count."""
    return counter.labels(*labels)


class PrometheusMetrics:
    """The metrics of the handlers, for Prometheus."""

    def count_vector(self, loop: str) -> None:
        """A vector was computed."""
        _series(VECTORS, loop).inc()

    def count_duplicate(self, loop: str) -> None:
        """An observation was dropped."""
        _series(DUPLICATES, loop).inc()

    def count_id_taken(self, loop: str) -> None:
        """An observation came under the id of another one."""
        _series(IDS_TAKEN, loop).inc()

    def count_outcome(self, loop: str, kind: str) -> None:
        """An outcome of a label or of feedback."""
        _series(OUTCOMES, loop, kind).inc()

    def count_unjoined(self, loop: str, reason: str) -> None:
        """A label or a prediction was given up."""
        _series(UNJOINED, loop, reason).inc()

    def count_forgotten(self, loop: str, cause: str) -> None:
        """An entity was forgotten."""
        _series(ERASED, loop, cause).inc()

    def count_evicted_entity(self, loop: str) -> None:
        """An entity was evicted."""
        _series(FORGOTTEN, loop).inc()

    def count_erased(self) -> None:
        """A record was left out."""
        PERSONAL_ERASED.labels("feature").inc()

    def set_joins(self, partition: int, table: str, count: int, size: int) -> None:
        """The size of a partition's table."""
        JOINS.labels(str(partition), table).set(count)
        JOIN_BYTES.labels(str(partition), table).set(size)

    def set_entities(self, partition: int, count: int, size: int) -> None:
        """The size of a partition's entities."""
        ENTITIES.labels(str(partition)).set(count)
        ENTITY_BYTES.labels(str(partition)).set(size)
