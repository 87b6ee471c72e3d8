"""What feature can be told."""

from __future__ import annotations

from pydantic import Field

from everloop_shared.messaging.faust.engine import FaustSettings


class FeatureSettings(FaustSettings):
    """Settings of the feature service, read from `EVERLOOP_FEATURE_<NAME>`."""

    ids_kept: int = Field(
        20_000, ge=256, le=1_000_000, description="ids that each entity remembers at least, to drop repeats"
    )
    max_entities: int = Field(
        100_000,
        ge=100,
        description="entities kept per partition (1 kB of memory each, and their windows); beyond, those heard of "
        "longest ago are forgotten",
    )
    max_entity_bytes: int = Field(
        200_000_000, ge=100_000, description="bytes that they may take per partition, their windows and ids included"
    )
    max_joins: int = Field(
        50_000,
        ge=100,
        description="predictions kept per partition for labels to come; beyond, the loop with the most parts with its "
        "own: those that have their label first, then the oldest",
    )
    max_join_bytes: int = Field(100_000_000, ge=100_000, description="bytes of them, as `max_joins`")
    max_waiting: int = Field(
        50_000, ge=100, description="ids without a prediction whose labels wait for one, per partition; then as above"
    )
    max_waiting_bytes: int = Field(40_000_000, ge=100_000, description="bytes of them, as `max_waiting`")
