"""Reads history, brings it into order on disk, and plays it into a loop: the work of `everloop backfill`."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from rich.progress import MofNCompleteColumn, TimeRemainingColumn

from everloop.async_client import AsyncEverloop
from everloop.backfill import archived
from everloop.backfill.columns import HistoryColumns, read_row
from everloop.backfill.sources import BIGQUERY, BigQueryRows, Files, Source, is_query
from everloop.backfill.staging import Staging
from everloop.cli.output import CommandFailed, print_json, print_result, print_stderr, progress_bar
from everloop.cli.playing import GIVE_UP_AFTER_S, fail_if_ended, open_pace, read_spec
from everloop.cli.progress import ReplayProgress
from everloop.client import Everloop
from everloop.data_sets import DataSet
from everloop.errors import EverloopError, EverloopHTTPError
from everloop.local.discovery import data_folder
from everloop.local.personal import with_keys_of
from everloop.replay.outcomes import has_lagged_label
from everloop.replay.player import Played, Player
from everloop.replay.rows import FileUnusable, Row
from everloop_features.times import EPOCH
from everloop_schemas.loop import LoopSpec
from everloop_shared.personal import Vault
from everloop_shared.settings import Settings

DEFAULT_TIME = "time"
SHOW_EVERY = 1_000
KNOWN_AT_ONCE = 200_000
"""Offsets of the log whose outcomes are asked for at once."""


@dataclass(frozen=True)
class BackfillRequest:
    """The loop, the source, and the options of the command."""

    loop: str
    data: str | None
    source: str
    time: str | None
    label: str | None
    entity: str | None
    id: str | None
    from_loop: str | None
    dry_run: bool
    as_json: bool


def run(request: BackfillRequest) -> None:
    """Load it, or only check it. Raises CommandFailed when it ended early."""
    spec = read_spec(request.loop, request.data)
    try:
        source, columns = _open(request, spec)
        with Staging(request.loop) as staging:
            _stage(staging, source, columns, spec)
            _report_refused(staging, spec)
            if isinstance(source, archived.ArchivedOutcomes) and source.erased:
                print_stderr(f"{source.erased:,} outcomes of erased persons are left out")
            if request.dry_run:
                _report(request, staging, None, None)
                return
            staging.skip_known(_known_ids(request))
            played, ended = _play(request, spec, staging)
            _report(request, staging, played, ended)
    except FileUnusable as e:
        raise CommandFailed(str(e)) from e
    fail_if_ended(ended, request.as_json)


def _open(request: BackfillRequest, spec: LoopSpec) -> tuple[Source, HistoryColumns]:
    """The source and its columns; raises FileUnusable where it lacks some."""
    if request.source.startswith(BIGQUERY) or is_query(request.source):
        source: Source = BigQueryRows(request.source)
    elif archived.is_archive(request.source):
        settings = with_keys_of(data_folder(request.data), Settings.load("training"))
        vault = Vault(settings.personal_keys_url, settings.personal_master_key)
        return archived.ArchivedOutcomes(request.source, request.from_loop or request.loop, vault), archived.COLUMNS
    else:
        source = Files(request.source)
    columns = HistoryColumns(request.time or DEFAULT_TIME, request.label, request.entity, request.id)
    if missing := columns.missing(spec, source.columns):
        named = ", ".join(missing[:50])
        raise FileUnusable(
            f"{request.source:.200} has no column {named}; its columns are {', '.join(source.columns)[:1000]}; "
            "name those with time, label, entity and id by --time, --label, --entity and --id"
        )
    return source, columns


def _stage(staging: Staging, source: Source, columns: HistoryColumns, spec: LoopSpec) -> None:
    now = datetime.now(UTC)
    with progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        task = bar.add_task("reading", total=source.total)
        for number, (values, place) in enumerate(source.rows(), 1):
            row, wrong = read_row(values, columns, spec, now)
            staging.add(number, row, wrong, place)
            if number % SHOW_EVERY == 0:
                bar.update(task, completed=number)


def _report_refused(staging: Staging, spec: LoopSpec) -> None:
    for name, rows in staging.refused.rows.most_common():
        number, error = staging.refused.first[name]
        print_stderr(f"{name}: {rows:,} rows refused, the first is row {number:,}: {error}")
    if staging.staged and not staging.labels:
        print_stderr("no row has a label: the loop predicts this history, and learns nothing from it")


def _known_ids(request: BackfillRequest) -> Iterator[str]:
    """The ids of all outcomes that the loop has, a part of the log at a time; feature knows only the last of an entity.

    Not those of a range of times: an outcome has the time of its prediction, which was made when history came.
    """
    with Everloop(request.data, retry_for=GIVE_UP_AFTER_S) as client:
        newest = _outcomes(client, request.loop, last=1)
        end = -1 if newest is None else newest.end
        for start in range(0, end + 1, KNOWN_AT_ONCE):
            found = _outcomes(client, request.loop, start=start, end=min(end, start + KNOWN_AT_ONCE - 1))
            yield from (row.prediction_id for row in found or ())


def _outcomes(client: Everloop, loop: str, **asked: Any) -> DataSet | None:
    """A data set; None where there is no outcome."""
    try:
        return client.dataset(loop, **asked)
    except EverloopHTTPError as e:
        if e.status == 404:
            return None
        raise


def _play(request: BackfillRequest, spec: LoopSpec, staging: Staging) -> tuple[Played, str | None]:
    with ReplayProgress(staging.staged - staging.already) as progress:
        return asyncio.run(_play_rows(request, spec, staging, progress))


async def _play_rows(
    request: BackfillRequest, spec: LoopSpec, staging: Staging, progress: ReplayProgress
) -> tuple[Played, str | None]:
    """The counts, and why it ended early, if it did. The first Ctrl-C ends it after the labels of what was sent."""
    stopped = asyncio.Event()
    player: Player
    async with AsyncExitStack() as stack:
        client = AsyncEverloop(request.data, retry_for=GIVE_UP_AFTER_S, on_retry=progress.report_retry)
        player = Player(request.loop, await stack.enter_async_context(client), 1 if has_lagged_label(spec) else None)
        player.on_refused, player.on_progress = progress.report_refused, progress.update
        player.pace = await stack.enter_async_context(open_pace(request.loop, request.data))
        playing = asyncio.create_task(player.play(_until(stopped, staging.rows())))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, _stop, stopped, playing)
        try:
            await playing
        except asyncio.CancelledError:
            return player.played, "interrupted; run it again, and it sends what the loop lacks"
        except EverloopError as e:
            return player.played, str(e)
    return player.played, "stopped; run it again, and it goes on" if stopped.is_set() else None


def _stop(stopped: asyncio.Event, playing: asyncio.Task[Any]) -> None:
    if stopped.is_set():
        playing.cancel()
    stopped.set()


def _until(stopped: asyncio.Event, rows: Iterator[Row]) -> Iterator[Row]:
    for row in rows:
        if stopped.is_set():
            return
        yield row


def _report(request: BackfillRequest, staging: Staging, played: Played | None, ended: str | None) -> None:
    counts = {
        "rows": staging.read,
        "fit": staging.staged,
        "labels": staging.labels,
        "refused": dict(staging.refused.rows),
        "repeated": staging.repeated,
        "already": staging.already,
    }
    if request.as_json:
        sent = {} if played is None else {"sent": asdict(played)}
        print_json(counts | sent | ({"ended": ended} if ended else {}))
        return
    print_result(f"{staging.read:,} rows read, {staging.staged:,} fit the loop, {staging.labels:,} of them with labels")
    if staging.times_us is not None:
        first, last = ((EPOCH + timedelta(microseconds=us)).isoformat() for us in staging.times_us)
        print_result(f"from {first} to {last}")
    if played is not None:
        print_result(
            f"{played.accepted:,} rows and {played.labels:,} labels sent, {staging.already:,} rows were there already"
        )
