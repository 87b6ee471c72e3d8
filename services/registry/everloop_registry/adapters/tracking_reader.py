"""Reads experiments, runs, logged models and notes from the SQL tables, for queries."""

from __future__ import annotations

from collections.abc import Sequence

from everloop_registry.adapters.tracking_rows import find_experiment, find_experiment_named, find_texts
from everloop_registry.domain.tracking import Experiment
from everloop_registry.tables import experiment_tags
from everloop_shared.database import Database


class SqlTrackingReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def experiment(self, experiment: str) -> Experiment | None:
        """The experiment of this id."""
        async with self._database.reading() as reader:
            return await find_experiment(reader, experiment)

    async def experiment_named(self, name: str) -> Experiment | None:
        """The experiment of this name."""
        async with self._database.reading() as reader:
            return await find_experiment_named(reader, name)

    async def experiment_tags(self, experiments: Sequence[str]) -> dict[str, dict[str, str]]:
        """The tags of experiments."""
        async with self._database.reading() as reader:
            return await find_texts(reader, experiment_tags, "experiment", list(experiments))
