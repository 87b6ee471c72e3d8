"""The composition root: settings and engines become the feature service."""

from __future__ import annotations

from everloop_feature.api import router
from everloop_feature.deadlines import Deadlines
from everloop_feature.handlers import EntityHandlers
from everloop_feature.joining import JoinHandlers
from everloop_feature.loops import Loops
from everloop_feature.metrics import PrometheusNotes
from everloop_feature.settings import FeatureSettings
from everloop_features.times import TimeLimits
from everloop_learning.deleted_loops import skip_deleted_loops
from everloop_schemas.feature import LabelJoined
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.registry import LoopState
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.messaging.keyed.expiry import keyed_on
from everloop_shared.messaging.keyed.store import KeyedFactory, KeyedGroup, KeyedStore
from everloop_shared.messaging.routes import EngineFactory, Route
from everloop_shared.service import Service

STATE_SHARE = 0.9
"""How much of the largest record a state may take; the rest is for the envelope."""


def build(settings: FeatureSettings, connect: EngineFactory, keyed: KeyedFactory | None = None) -> Service:
    """The service. Without `keyed` its state lives in memory only, on the engines that `connect` makes."""
    loops, notes = Loops(), PrometheusNotes()
    times = TimeLimits(settings.earliest_time, settings.max_future_s)
    entities, joins = KeyedStore("entities", ordered=True), KeyedStore("joins")
    windows = EntityHandlers(
        loops,
        entities,
        notes,
        settings.ids_kept,
        int(settings.max_event_bytes * STATE_SHARE),
        max_entities=settings.max_entities,
        max_entity_bytes=settings.max_entity_bytes,
        times=times,
    )
    predictions = Deadlines(settings.max_joins, settings.max_join_bytes)
    strangers = Deadlines(settings.max_waiting, settings.max_waiting_bytes)
    joining = JoinHandlers(loops, joins, notes, predictions, strangers, times)
    bus = connect("feature", [Route(LoopState.topic, windows.on_loop_state, broadcast=True)])
    groups = [
        KeyedGroup(
            entities,
            skip_deleted_loops(
                "feature",
                loops.known,
                [
                    Route(EventReceived.topic, windows.on_event_received),
                    Route(ObservationReceived.topic, windows.on_observation_received),
                    Route(LabelJoined.topic, windows.on_label_joined),
                ],
            ),
            sweep=windows.sweep,
            restored=lambda: windows.restored(entities.items()),
        ),
        KeyedGroup(
            joins,
            skip_deleted_loops(
                "feature",
                loops.known,
                [
                    Route(PredictionMade.topic, joining.on_prediction_made),
                    Route(LabelReceived.topic, joining.on_label_received),
                ],
            ),
            sweep=joining.sweep,
            restored=lambda: joining.restored(joins.items()),
        ),
    ]
    streams = (keyed or keyed_on(connect, settings.partitions))("feature", groups, bus)

    def find(key: str) -> bytes | None:
        return entities.find(key, bus.partition_for(EventReceived.topic, key.encode()))

    return Service(name="feature", settings=settings, router=router(loops, find), engines=[bus, *streams])
