"""How much is measured: all sizes in one place, a full and a quick set of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.bench.installation import Installation


@dataclass(frozen=True)
class Settings:
    """Sizes of the runs. Whoever starts the bench fills in the broker and, where it is shared, the installation."""

    runs: int = 5
    engine_events: int = 60_000
    source_rows: int = 60_000
    feature_events: int = 12_000
    serving_events: int = 20_000
    rest_requests: int = 20_000
    rest_connections: tuple[int, ...] = (1, 32, 256)
    swaps: int = 50
    swap_rows: int = 600
    swap_mb: float = 20.0
    learner_outcomes: int = 20_000
    learners_outcomes: int = 40_000
    learners_loops: int = 64
    search_rows: int = 20_000
    search_trials: int = 24
    drift_seeds: int = 5
    drift_rows: int = 50_000
    archive_outcomes: int = 40_000
    line_outcomes: int = 20_000
    line_window: int = 10_000
    line_every: int = 2_000
    loop_observations: int = 10_000
    loop_window: int = 1_000
    latency_s: float = 10.0
    latency_rates: tuple[int, ...] = (100, 1000)
    replay_rows: int = 10_000
    lockstep_rows: int = 1_000
    parity_events: int = 1_000_000
    parity_entities: int = 10_000
    memory_loops: int = 100
    memory_entities: int = 100_000
    soak_rate: int = 200
    soak_s: float = 600.0
    state_entities: int = 1_000_000
    state_joins: int = 1_000_000
    growth_loops: tuple[int, ...] = (1, 100)
    growth_entities: tuple[int, ...] = (1_000, 100_000)
    growth_history: tuple[int, ...] = (10_000, 100_000)
    growth_events: int = 10_000
    archive_memory_rows: int = 1_000_000
    mlserver_python: str = ""
    quick: bool = False
    bootstrap: str = ""
    broker_pid: int = 0
    folder: Path = Path()
    installation: Installation | None = None


QUICK = Settings(
    runs=1,
    engine_events=2_000,
    source_rows=1_000,
    feature_events=600,
    serving_events=600,
    rest_requests=400,
    rest_connections=(1, 32),
    swaps=3,
    swap_rows=50,
    swap_mb=0.5,
    learner_outcomes=500,
    learners_outcomes=3_000,
    learners_loops=8,
    search_rows=500,
    search_trials=4,
    drift_seeds=1,
    drift_rows=2_000,
    archive_outcomes=2_000,
    line_outcomes=350,
    line_window=300,
    line_every=300,
    loop_observations=300,
    loop_window=100,
    latency_s=1.0,
    latency_rates=(50,),
    replay_rows=300,
    lockstep_rows=30,
    parity_events=1_500,
    parity_entities=30,
    memory_loops=3,
    memory_entities=50,
    soak_rate=50,
    soak_s=3.0,
    state_entities=2_000,
    state_joins=2_000,
    growth_loops=(),
    growth_entities=(50,),
    growth_history=(200,),
    growth_events=200,
    archive_memory_rows=20_000,
    quick=True,
)
"""Proves that everything runs, within a minute; its figures mean nothing."""
