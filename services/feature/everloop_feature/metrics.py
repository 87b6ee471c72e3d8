"""What feature measures."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

DUPLICATES = Counter("everloop_feature_duplicates_total", "Observations dropped: their id came before.", ["loop"])
TAKEN = Counter("everloop_feature_ids_taken_total", "Observations parked: their id came before, other data.", ["loop"])
VECTORS = Counter("everloop_feature_vectors_total", "Vectors computed for the stream door.", ["loop"])
OUTCOMES = Counter("everloop_feature_outcomes_total", "Outcomes by kind of word: label, feedback.", ["loop", "kind"])
UNJOINED = Counter(
    "everloop_feature_unjoined_total",
    "Given up by reason: late (label), never_came (its prediction), evicted (prediction without a label), "
    "crowded_out (label that waited for its prediction).",
    ["loop", "reason"],
)
KEPT = Gauge(
    "everloop_feature_joins",
    "Kept by partition and table: predictions, and labels that wait for one; limits: MAX_JOINS, MAX_WAITING.",
    ["partition", "table"],
)
KEPT_BYTES = Gauge(
    "everloop_feature_join_bytes",
    "Bytes of what is kept, by partition and table; limits: MAX_JOIN_BYTES, MAX_WAITING_BYTES.",
    ["partition", "table"],
)
ENTITIES = Gauge("everloop_feature_entities", "Entities kept by partition; limit: MAX_ENTITIES.", ["partition"])
ENTITY_BYTES = Gauge(
    "everloop_feature_entity_bytes", "Bytes of the entities kept by partition; limit: MAX_ENTITY_BYTES.", ["partition"]
)
FORGOTTEN = Counter("everloop_feature_forgotten_total", "Entities forgotten: more came than MAX_ENTITIES.", ["loop"])


class PrometheusNotes:
    """The notes of the handlers as Prometheus metrics."""

    def duplicate(self, loop: str) -> None:
        """An observation was dropped."""
        DUPLICATES.labels(loop).inc()

    def taken(self, loop: str) -> None:
        """An observation came under the id of another one."""
        TAKEN.labels(loop).inc()

    def computed(self, loop: str) -> None:
        """A vector was computed."""
        VECTORS.labels(loop).inc()

    def outcome(self, loop: str, kind: str) -> None:
        """An outcome left."""
        OUTCOMES.labels(loop, kind).inc()

    def unjoined(self, loop: str, reason: str) -> None:
        """A label or a prediction was given up."""
        UNJOINED.labels(loop, reason).inc()

    def kept(self, partition: int, table: str, count: int, size: int) -> None:
        """What a partition keeps in a table."""
        KEPT.labels(str(partition), table).set(count)
        KEPT_BYTES.labels(str(partition), table).set(size)

    def forgotten(self, loop: str) -> None:
        """An entity was forgotten."""
        FORGOTTEN.labels(loop).inc()

    def entities(self, partition: int, entities: int, size: int) -> None:
        """How many entities a partition keeps, and how many bytes they take."""
        ENTITIES.labels(str(partition)).set(entities)
        ENTITY_BYTES.labels(str(partition)).set(size)
