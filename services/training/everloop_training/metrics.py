"""The metrics of training."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter(
    "everloop_training_outcomes_total", "Outcomes that the workers have processed, by number of the worker.", ["worker"]
)
RUNS = Counter(
    "everloop_training_runs_total", "Training runs that were requested, by loop and trigger.", ["loop", "trigger"]
)
VERSIONS = Counter("everloop_training_versions_total", "Versions made, by loop and reason.", ["loop", "reason"])
FAILURES = Counter(
    "everloop_training_failed_lines_total", "Lines that broke, and started again or ended, by loop.", ["loop"]
)
WORKER_STARTS = Counter(
    "everloop_training_worker_starts_total",
    "Starts of a worker process, by number of the worker; more than 1 after it has exited.",
    ["worker"],
)
BATCH_RUNS = Counter(
    "everloop_training_batch_runs_total",
    "Trainings of batch lines that have ended, by loop and result: trained, failed, given_up.",
    ["loop", "result"],
)
BATCH_SECONDS = Histogram(
    "everloop_training_batch_seconds",
    "Duration of trainings of batch lines, by loop.",
    ["loop"],
    buckets=(1, 3, 10, 30, 60, 180, 600, 1800, 3600),
)
SEARCHES = Counter(
    "everloop_training_searches_total",
    "Searches that have ended here, by loop and result: improved, unchanged, failed, given_up.",
    ["loop", "result"],
)
TRIALS = Counter(
    "everloop_training_search_trials_total",
    "Trials of searches that have ended here, by loop and state: complete, pruned, failed.",
    ["loop", "state"],
)
OPEN_SEARCHES = Gauge("everloop_training_open_searches", "Searches that have not ended, of all loops.")
IN_FLIGHT = Gauge(
    "everloop_training_in_flight_outcomes",
    "Outcomes in flight to a worker; limit of all workers: IN_FLIGHT.",
    ["worker"],
)
IN_FLIGHT_BYTES = Gauge(
    "everloop_training_in_flight_bytes", "Bytes of their records; limit of all workers: IN_FLIGHT_BYTES.", ["worker"]
)
ARTIFACT_BYTES = Gauge("everloop_training_artifact_bytes", "Bytes in the artifact store, at the last search.")
COLLECTED = Counter("everloop_training_collected_bytes_total", "Bytes of artifacts deleted: no version needs them.")
SNAPSHOT_OFFSET = Gauge(
    "everloop_training_snapshot_offset", "Next offset of the last snapshot, by partition.", ["partition"]
)
LEASES = Counter("everloop_training_leases_total", "Runs given to trainers elsewhere, by loop.", ["loop"])
LEASED_RUNS = Gauge("everloop_training_leased_runs", "Open runs that a trainer elsewhere has taken.")
ANSWERS = Counter(
    "everloop_training_answers_total",
    "What trainers elsewhere answered, by loop and result: trained, failed, refused, or given_up without an answer.",
    ["loop", "result"],
)
ARCHIVE_ROWS = Counter("everloop_archive_rows_total", "Records archived, by kind: outcomes, predictions.", ["kind"])
ARCHIVE_BYTES = Counter("everloop_archive_bytes_total", "Bytes of the data files written, by kind.", ["kind"])
ARCHIVE_FAILURES = Counter(
    "everloop_archive_failures_total", "Attempts to open, read or write the archive that failed, by kind.", ["kind"]
)
ARCHIVE_FAILING = Gauge(
    "everloop_archive_failing_seconds", "Seconds since such attempts began to fail; 0 while they succeed.", ["kind"]
)
ARCHIVE_BEHIND = Gauge(
    "everloop_archive_behind_seconds", "Age of the oldest record that was read and is not archived, by kind.", ["kind"]
)
ARCHIVE_BUFFERED = Gauge(
    "everloop_archive_buffered_bytes", "Memory of records that are not archived yet; limit: ARCHIVE_BYTES.", ["kind"]
)
ARCHIVE_LOST = Counter(
    "everloop_archive_lost_records_total",
    "Offsets that retention deleted before they were archived, by kind.",
    ["kind"],
)
ARCHIVE_LEFT_OUT = Counter(
    "everloop_archive_left_out_records_total", "Records that are no event, and are not archived, by kind.", ["kind"]
)
