"""The commands about dead letters: list, show, repair, send again."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table

from everloop.cli import letter_sending as sending
from everloop.cli.ask import RETRY_FOR_S, ask, ask_by
from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, print_stderr, printable, refusal
from everloop.client import Everloop
from everloop.errors import EverloopHTTPError
from everloop.wire import query

MOST = 10_000
"""The list has no more."""
LetterId = Annotated[str, typer.Argument(metavar="ID", help="The letter's id, as ls shows it.")]
OneLetter = Annotated[str | None, typer.Argument(metavar="[ID]", help="The letter's id; or --all.")]
Service = Annotated[
    str | None, typer.Option("--service", metavar="S", help="Only of this service, such as feature or ingest.")
]
LoopOption = Annotated[str | None, typer.Option("--loop", metavar="L", help="Only of this loop.")]
Since = Annotated[
    str | None, typer.Option("--since", metavar="TIME", help="Only of records since then, RFC 3339: 2024-05-01T12:00Z.")
]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=MOST, help="How many, the newest.")]
All = Annotated[bool, typer.Option("--all", help="All that were not sent again yet, the oldest first.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would go where, and send nothing.")]
File = Annotated[Path | None, typer.Option("--file", metavar="FILE", help="The repaired record; - is standard input.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="A value to change, in JSON or as text: data.price=3.5."),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write what is to be repaired, send nothing.")
]


def register(app: typer.Typer) -> None:
    """Mount `letters ls`, `show`, `repair` and `send`."""
    letters = typer.Typer(
        no_args_is_help=True, help="Dead letters: records that a service could not process. List, repair, send again."
    )
    letters.callback()(_letters)
    letters.command("ls", epilog="Example: everloop letters ls --loop churn --since 2024-05-01T12:00:00Z")(ls)
    letters.command("show", epilog="Example: everloop letters show 0b0f7c1e-...")(show)
    repair_example = "Example: everloop letters repair 0b0f7c1e-... --set data.visits=3"
    letters.command("repair", epilog=repair_example)(repair)
    letters.command("send", epilog="Example: everloop letters send --all --loop churn --dry-run")(send)
    app.add_typer(letters, name="letters")


def _letters() -> None:
    pass


def ls(
    service: Service = None,
    loop: LoopOption = None,
    since: Since = None,
    limit: Limit = 50,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the latest dead letters, newest first: what could not be processed, by whom, why, and what became of it."""
    found = ask("monitoring", _query(service, loop, since, limit), data)["dead_letters"]
    if as_json:
        print_json(found)
    elif found:
        print_result(_table(found))
    else:
        print_stderr("No dead letter: every record was processed.")


def show(letter: LetterId, data: Data = None, as_json: Json = False) -> None:
    """Show one dead letter with its record. What is not printable is escaped; long records are cut."""
    found = ask("monitoring", sending.path_of(letter), data)
    if as_json:
        print_json(found)
        return
    print_result(_details(found), "")
    print_result("(no bytes)" if found["text"] is None else printable(found["text"], but="\n\t"))
    if found["truncated"]:
        print_stderr(f"... cut; all of it: everloop letters repair {letter} --output FILE")


def repair(
    letter: LetterId,
    file: File = None,
    settings: Setting = None,
    output: Output = None,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Repair the record of a dead letter, and send it again where it belongs.

    Change values by --set, give the repaired record by --file, or edit it in $EDITOR. With --output the record is only
    written to a file: an observation or a label as ingest's endpoint takes it, anything else as it lay on its topic.
    """
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        body = sending.read_body(client, letter)
        if output is not None:
            _write(output, body)
            result = f"everloop letters repair {letter} --file {shlex.quote(str(output))}"
            print_json({"letter": letter, "file": str(output)}) if as_json else print_result(
                f"{output} holds the record; send it when it is repaired: {result}"
            )
            return
        repaired = _repaired(body, file, settings or [])
        if dry_run:
            to = printable(sending.plan(client, letter, repaired)["to"])
            print_result(f"would go to {to}:", printable(_text(repaired), but="\n\t"))
            return
        _report([_send(client, letter, repaired)], as_json)


def send(
    letter: OneLetter = None,
    every: All = False,
    service: Service = None,
    loop: LoopOption = None,
    since: Since = None,
    dry_run: DryRun = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Send the record of a dead letter again, as it was, once its cause is gone; or all of them.

    An observation or a label goes by ingest, which checks it again; a record of a source by that source; any other on
    its own topic. It keeps its id and key, so that consumers take it once, however often it is sent.
    """
    if (letter is None) is not every:
        raise typer.BadParameter("give the id of one letter, or --all", param_hint="ID")
    with Everloop(data, retry_for=RETRY_FOR_S) as client:
        if letter is not None:
            letters = [letter]
        else:
            found = ask_by(client, "monitoring", _query(service, loop, since, MOST))["dead_letters"]
            letters = [one["id"] for one in reversed(found) if not one["sent"]]
        _send_all(client, letters, dry_run=dry_run, as_json=as_json, one=not every)


def _send_all(client: Everloop, letters: Sequence[str], *, dry_run: bool, as_json: bool, one: bool) -> None:
    done, failed = list[sending.Sent](), 0
    for letter in letters:
        try:
            if dry_run:
                done.append(sending.Sent(letter, sending.plan(client, letter, None)["to"], None, new=False))
            else:
                done.append(_send(client, letter, None))
        except EverloopHTTPError as e:
            if one:
                raise
            failed += 1
            print_stderr(*(f"{letter}: {printable(reason)}" for reason in refusal(e)))
    if dry_run:
        print_json([asdict(sent) for sent in done]) if as_json else print_result(
            *(f"{sent.letter} would go to {printable(sent.to)}" for sent in done),
            f"{len(done):,} would be sent, {failed:,} cannot be",
        )
    else:
        _report(done, as_json)
    if failed:
        raise CommandFailed(f"{failed:,} of {len(letters):,} letters were not sent again: repair them, or leave them")


def _send(client: Everloop, letter: str, repaired: bytes | None) -> sending.Sent:
    try:
        return sending.send(client, letter, repaired)
    except EverloopHTTPError as e:
        if e.status == 422:
            print_stderr(f"everloop: not taken; repair it: everloop letters repair {letter} --set PATH=VALUE")
        raise


def _report(done: Sequence[sending.Sent], as_json: bool) -> None:
    if as_json:
        print_json([asdict(sent) for sent in done])
        return
    for sent in done:
        again = "is sent again" if sent.new else "was sent again before, which changes nothing"
        event = f" as {sent.event}" if sent.event else "; its source takes nothing from it"
        print_result(f"{sent.letter} {again}: to {printable(sent.to)}{printable(event)}")
    if not done:
        print_result("no letter waits to be sent again")


def _repaired(body: bytes, file: Path | None, settings: Sequence[str]) -> bytes:
    if file is not None:
        body = _read(file)
    elif not settings:
        body = _edit(body)
    return sending.change(body, settings) if settings else body


def _edit(body: bytes) -> bytes:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise CommandFailed(
            "nothing says what to repair: change values by --set PATH=VALUE, or write the record by --output FILE and "
            "give it back by --file FILE, or set EDITOR"
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "record.json"
        _write(file, body)
        status = subprocess.call([*shlex.split(editor), str(file)])  # the user's own editor
        after = file.read_bytes()
    if status != 0 or after == body:
        raise CommandFailed("the record was not changed, so nothing was sent; everloop letters send sends it as it is")
    return after


def _write(file: Path, body: bytes) -> None:
    try:
        file.write_bytes(body)
    except OSError as e:
        raise CommandFailed(f"{file} cannot be written: {e.strerror}") from e


def _read(file: Path) -> bytes:
    try:
        return typer.get_binary_stream("stdin").read() if str(file) == "-" else file.read_bytes()
    except OSError as e:
        raise CommandFailed(f"{file} cannot be read: {e.strerror}") from e


def _text(body: bytes) -> str:
    return body.decode(errors="backslashreplace")


def _query(service: str | None, loop: str | None, since: str | None, limit: int) -> str:
    return "/v1/dead-letters" + query(service=service, loop=loop, since=since, limit=limit)


def _table(found: Sequence[Mapping[str, Any]]) -> RenderableType:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("id", "time", "service", "loop", "topic", "error", "why", "sent again"):
        table.add_column(name, overflow="fold", no_wrap=name == "id")
    for one in found:
        sent = one["sent"][-1]["time"][:19] if one["sent"] else "" if one["way"] else "cannot be"
        cells = (
            one["id"],
            one["time"][:19],
            one["service"],
            one["loop"],
            one["topic"],
            one["error"],
            one["reason"],
            sent,
        )
        table.add_row(*map(printable, cells))
    return table


def _details(found: Mapping[str, Any]) -> RenderableType:
    table = Table(box=None, show_header=False, pad_edge=False)
    at = f"partition {found['partition']}, offset {found['offset']}" if found["offset"] >= 0 else "refused by HTTP"
    place = f"{found['topic']}, {at}"
    again = found["way"] and {"ingest": "by ingest", "source": "by its source", "topic": "on its topic"}[found["way"]]
    rows = [
        ("letter", found["id"]),
        ("of", f"{found['service']}, loop {found['loop'] or '(none named)'}"),
        ("record", f"{place}, {found['size']:,} bytes, {found['time']}"),
        ("event", found["event"] or "(none named)"),
        ("error", found["error"]),
        ("why", found["reason"]),
        ("goes again", again or f"no: {found['refused']}"),
    ]
    rows += [("source", found["reader"])] if found["reader"] else []
    rows += [("key", found["key"])] if found["key"] else []
    for one in found["sent"]:
        repaired = "repaired" if one["repaired"] else "as it was"
        rows.append(
            ("sent again", f"{one['time'][:19]} {repaired}, as {one['event']} of {one['loop']}, by {one['actor']}")
        )
    for name, value in rows:
        table.add_row(name, printable(value))
    return table
