"""Settings of feature."""

from __future__ import annotations

from pydantic import Field

from everloop_shared.messaging.faust.consumer import FaustSettings


class FeatureSettings(FaustSettings):
    """Settings of the feature service, read from `EVERLOOP_FEATURE_<NAME>`."""

    ids_kept: int = Field(
        20_000, ge=256, le=1_000_000, description="ids stored per entity at least, to drop duplicates"
    )
    max_entities: int = Field(
        5_000_000,
        ge=100,
        description="entities per partition, on disk (100 bytes each, and their windows); beyond, those used longest "
        "ago are evicted",
    )
    max_entity_bytes: int = Field(
        5_000_000_000, ge=100_000, description="bytes of entities per partition on disk, with their windows and ids"
    )
    max_joins: int = Field(
        2_000_000,
        ge=100,
        description="predictions per partition, on disk, that wait for labels; beyond, the loop with the most evicts "
        "its own: those that have their label first, then the oldest",
    )
    max_join_bytes: int = Field(
        2_000_000_000, ge=100_000, description="bytes of predictions per partition, as `max_joins`"
    )
    max_waiting: int = Field(
        500_000, ge=100, description="ids per partition whose labels wait for a prediction; beyond, as `max_joins`"
    )
    max_waiting_bytes: int = Field(
        400_000_000, ge=100_000, description="bytes of waiting labels per partition, as `max_joins`"
    )
