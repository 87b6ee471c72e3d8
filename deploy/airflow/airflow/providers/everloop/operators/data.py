"""Operators about data: load history into a loop, and export what its models learn."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.providers.everloop.operators.base import EverloopOperator
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowFailException

from everloop import DataSet

FORMATS = (".parquet", ".csv", ".ndjson")
SAID_CHARACTERS = 2_000


class EverloopBackfillOperator(EverloopOperator):
    """Loads history into a loop, as `everloop backfill` does, in a process of its own that ends with the task.

    `source` and the columns are as there. The result counts rows, labels and what was there already: a second attempt
    goes on where the first one was, as the same history again changes nothing.
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "source")

    def __init__(
        self,
        *,
        source: str,
        time: str | None = None,
        label: str | None = None,
        entity: str | None = None,
        id_column: str | None = None,
        from_loop: str | None = None,
        dry_run: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source, self.dry = source, dry_run
        self.options = {"time": time, "label": label, "entity": entity, "id": id_column, "from-loop": from_loop}
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Run the command."""
        options = [part for name, value in self.options.items() if value for part in (f"--{name}", value)]
        command = [sys.executable, "-m", "everloop", "backfill", self.loop, self.source, *options, "--json"]
        environment = {**os.environ, **EverloopHook(self.everloop_conn_id).get_environment()}
        self._process = subprocess.Popen(
            [*command, *["--dry-run"] * self.dry],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        told, errors = self._process.communicate()
        if self._process.returncode == 2:
            raise AirflowFailException(errors[-SAID_CHARACTERS:])
        if self._process.returncode != 0:
            raise RuntimeError(errors[-SAID_CHARACTERS:] or f"everloop backfill ended with {self._process.returncode}")
        counted: dict[str, Any] = json.loads(told)
        return counted

    def on_kill(self) -> None:
        """End the command, which leaves nothing behind."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)


class EverloopExportDatasetOperator(EverloopOperator):
    """Reads what models learn of a loop into a file: `path` ends with .parquet, .csv or .ndjson.

    `loop` may be the name of a data set (`churn@0..999#1`); else `last` so many outcomes, those from offset `start` to
    `end`, those observed between `since` and `until`, or all. The result is `name`, `digest`, `rows` and `path`. The
    file takes its place in one step. A second attempt reads again and replaces it: by offsets or a name it is the same,
    by `last` it has the outcomes that have come meanwhile, and another name.
    """

    template_fields: Sequence[str] = (*EverloopOperator.template_fields, "path", "since", "until", "start", "end")

    def __init__(
        self,
        *,
        path: str,
        last: int | None = None,
        start: int | str | None = None,
        end: int | str | None = None,
        since: str | None = None,
        until: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.path, self.last, self.start, self.end, self.since, self.until = path, last, start, end, since, until

    def execute(self, context: Context) -> dict[str, Any]:
        """Read it, and write it."""
        file = Path(self.path)
        if file.suffix not in FORMATS:
            raise AirflowFailException(f"path: {self.path!r} must end with {', '.join(FORMATS)}")
        start, end = (int(offset) if offset not in (None, "") else None for offset in (self.start, self.end))
        asked = {"last": self.last, "start": start, "end": end, "since": self.since, "until": self.until}
        found = self.ask(lambda client: client.dataset(self.loop, **asked))
        file.parent.mkdir(parents=True, exist_ok=True)
        half = file.with_name(f".{file.name}.{os.getpid()}{file.suffix}")
        try:
            _write(found, half)
            half.replace(file)
        finally:
            half.unlink(missing_ok=True)
        return {"name": found.name, "digest": found.digest, "rows": len(found), "path": str(file)}


def _write(found: DataSet, file: Path) -> None:
    {".parquet": found.to_parquet, ".csv": found.to_csv, ".ndjson": found.to_ndjson}[file.suffix](str(file))
