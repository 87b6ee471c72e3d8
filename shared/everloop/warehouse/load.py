"""Loads a table of the archive into BigQuery: each file once, in order, as far as the table there does not have it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any

import pyarrow.parquet as pq  # type: ignore[import-untyped]

from everloop.warehouse.batches import Overlap, batches, groups
from everloop.warehouse.errors import WarehouseFailed, failures
from everloop.warehouse.schema import columns, converted, grown, without_maps
from everloop_archive.layout import TableName
from everloop_archive.reader.file_records import FileRecords
from everloop_archive.stores import ArchiveStore
from everloop_archive.table_log import DataFile, TableLog

JOB_S, ATTEMPTS = 3600.0, 20
GCS = ("gs://", "gcs://")


@dataclass(frozen=True)
class Loaded:
    """What a load came to: the table there, the rows that were loaded now, and those that it has."""

    table: str
    loaded: int
    rows: int


@dataclass
class Loader:
    """Loads into `dataset`, `project.dataset`, with `client`; blocks.

    By load jobs from the files' own URIs where the archive is in Google Cloud Storage, unless `upload` is set;
    otherwise the files are uploaded, many in one. Each job is atomic and named by what it loads and after what, so
    that a program that is killed and started again, or a second one, finds the job instead of making it twice.
    """

    client: Any
    store: ArchiveStore
    dataset: str
    upload: bool = False
    on_progress: Callable[[int, int], None] = lambda rows, of: None

    def load(self, name: TableName) -> Loaded:
        """Load what the table lacks. Raises WarehouseFailed, ArchiveUnavailable and ArchiveCorrupt."""
        state, files = TableLog(self.store, name).read_with_files()
        schema = state.schema
        target = f"{self.dataset}.{name.kind}_{name.loop}"
        if schema is None:
            return Loaded(target, 0, 0)
        with failures(f"loading {target}"):
            made = self._make_table(target, schema)
            self._await_jobs(target)
            ends = self._ends(target)
            try:
                work = list(batches(groups(files), {p: last for p, (last, _) in ends.items()}))
            except Overlap as e:
                raise WarehouseFailed(f"{target}: {e}; delete the table, and load again") from e
            done, rows = 0, sum(file.rows for batch in work for file in batch)
            for batch in work:
                self._load(target, name, schema, batch, made)
                done += sum(file.rows for file in batch)
                self.on_progress(done, rows)
            self._check(target, files)
        return Loaded(target, rows, sum(file.rows for file in files))

    def _make_table(self, target: str, schema: Any) -> str:
        """Make it, or add the columns that it lacks; returns when it was made, which tells it from one of before."""
        from google.cloud import bigquery

        table = bigquery.Table(target, schema=columns(schema))
        table.time_partitioning = bigquery.TimePartitioning(field="time")
        there = self.client.create_table(table, exists_ok=True)
        wanted = grown(list(there.schema), columns(schema))
        if wanted != list(there.schema):
            there.schema = wanted
            self.client.update_table(there, ["schema"])
        return str(there.created)

    def _await_jobs(self, target: str) -> None:
        """Wait for jobs of a program that has ended, or is another one: what they load is not loaded again."""
        for state in ("pending", "running"):
            for job in self.client.list_jobs(state_filter=state):
                if job.job_id.startswith(_prefix(target)):
                    job.result(timeout=JOB_S)

    def _ends(self, target: str) -> dict[int, tuple[int, int]]:
        """The last offset and the number of rows of each partition in the table."""
        query = f"SELECT `partition` AS p, MAX(`offset`) AS last, COUNT(*) AS n FROM `{target}` GROUP BY p"
        return {row["p"]: (row["last"], row["n"]) for row in self.client.query(query).result(timeout=JOB_S)}

    def _load(self, target: str, name: TableName, schema: Any, batch: Sequence[DataFile], made: str) -> None:
        """Load a batch by one job; the attempts before, which failed, have used their names up."""
        from google.api_core.exceptions import Conflict

        for attempt in range(ATTEMPTS):
            job_id = f"{_prefix(target)}{_digest(batch, made)}-{attempt}"
            try:
                self._submit(target, name, schema, batch, job_id).result(timeout=JOB_S)
                return
            except Conflict:
                job = self.client.get_job(job_id)
                if job.state != "DONE" or not job.error_result:
                    job.result(timeout=JOB_S)
                    return
        raise WarehouseFailed(f"{target}: {ATTEMPTS} jobs for the same files have failed; see {job_id}")

    def _submit(self, target: str, name: TableName, schema: Any, batch: Sequence[DataFile], job_id: str) -> Any:
        if self.store.url.startswith(GCS) and not self.upload:
            uris = [f"gs://{self.store.path(f'{name.folder}/{file.name.path}')}" for file in batch]
            return self.client.load_table_from_uri(uris, target, job_id=job_id, job_config=_job_config())
        with tempfile.TemporaryFile() as file:
            self._write(file, name, schema, batch)
            file.seek(0)
            return self.client.load_table_from_file(file, target, job_id=job_id, job_config=_job_config())

    def _write(self, file: IO[bytes], name: TableName, schema: Any, batch: Sequence[DataFile]) -> None:
        """Write the rows of several files into one, some thousand at a time."""
        wanted = without_maps(schema)
        with pq.ParquetWriter(file, wanted, compression="zstd") as writer:
            for one in batch:
                for rows in FileRecords(self.store, name.folder, one).columns():
                    writer.write_batch(converted(rows, wanted))

    def _check(self, target: str, files: Sequence[DataFile]) -> None:
        """Raise WarehouseFailed unless the table has as many rows of each partition as the archive, and no others."""
        expected: dict[int, int] = {}
        for file in files:
            expected[file.name.partition] = expected.get(file.name.partition, 0) + file.rows
        there = {partition: rows for partition, (_, rows) in self._ends(target).items()}
        if there != expected:
            raise WarehouseFailed(
                f"{target} has {there} rows by partition, the archive {expected}: delete the table, and load again"
            )


def _job_config() -> Any:
    from google.cloud import bigquery

    options = bigquery.format_options.ParquetOptions()  # type: ignore[no-untyped-call]
    options.enable_list_inference = True
    options.map_target_type = "ARRAY_OF_STRUCT"
    return bigquery.LoadJobConfig(source_format="PARQUET", write_disposition="WRITE_APPEND", parquet_options=options)


def _prefix(target: str) -> str:
    """How the names of the jobs of a table begin; jobs have names within their project."""
    return f"everloop-load-{'-'.join(target.split('.')[1:])}-"


def _digest(batch: Sequence[DataFile], made: str) -> str:
    return hashlib.sha256("\n".join([made, *(file.name.path for file in batch)]).encode()).hexdigest()[:24]
