"""Reads versions by their numbers, and to whom files belong, from the SQL tables."""

from __future__ import annotations

import sqlalchemy as sql

from everloop_registry.adapters.loop_specs import find_applied
from everloop_registry.adapters.tracking_rows import find_experiment, find_run
from everloop_registry.domain.artifact_paths import ArtifactPath
from everloop_registry.domain.mlflow_model import NumberedVersion, run_of
from everloop_registry.domain.tracking import Run
from everloop_registry.tables import logged_models, runs, versions
from everloop_schemas.envelope import utc_time
from everloop_schemas.training import ModelTrainedData
from everloop_shared.database import Database


class SqlVersionReader:
    """Reads what is committed, on snapshots beside the writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def version(self, loop: str, number: int) -> NumberedVersion | None:
        """A version by its number."""
        query = sql.select(versions).where(versions.c.loop == loop, versions.c.number == number)
        async with self._database.reading() as reader:
            if (row := (await reader.execute(query)).first()) is None:
                return None
            model = ModelTrainedData.model_validate_json(row.model)
            applied = await find_applied(reader, loop)
            by_revision = {decision.revision: decision.data.spec for decision in applied}
            spec = by_revision.get(model.manifest.loop_revision, applied[-1].data.spec)
            return NumberedVersion(number, model, spec, utc_time(row.time_us / 1_000_000), run_of(model))

    async def of_run(self, run: str) -> list[tuple[str, int]]:
        """The versions that a run led to: loop and number of each."""
        order = (versions.c.loop, versions.c.number)
        select = sql.select(*order).order_by(*order)
        # the run of a submitted model's line is not the one in which somebody logged it, and has its versions too
        named = versions.c.model.contains(f'"run":"{run}"', autoescape=True)
        async with self._database.reading() as reader:
            found = (await reader.execute(select.where(versions.c.run == run))).all()
            found = found or (await reader.execute(select.where(named))).all()
        return [(row.loop, row.number) for row in found]

    async def number(self, loop: str, version: str) -> int | None:
        """The number of a version."""
        query = sql.select(versions.c.number).where(versions.c.loop == loop, versions.c.version == version)
        async with self._database.reading() as reader:
            found: int | None = await reader.scalar(query)
            return found

    async def run(self, run: str) -> Run | None:
        """The run of this id."""
        async with self._database.reading() as reader:
            return await find_run(reader, run)

    async def experiment_name(self, experiment: str) -> str | None:
        """The name of the experiment of this id."""
        async with self._database.reading() as reader:
            found = await find_experiment(reader, experiment)
            return found.name if found else None

    async def has_owner(self, path: ArtifactPath) -> bool:
        """Whether the run or the logged model of a path exists and is not deleted."""
        table = runs if path.kind == "runs" else logged_models
        query = sql.select(table.c.id).where(table.c.id == path.owner, table.c.stage != "deleted")
        async with self._database.reading() as reader:
            return await reader.scalar(query) is not None
