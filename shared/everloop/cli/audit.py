"""The commands for auditors: who did what, and whether the decisions on the log are those that were made."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Annotated

import typer
from rich.progress import TextColumn, TimeElapsedColumn

from everloop.cli.output import (
    CommandFailed,
    Data,
    Json,
    print_json,
    print_result,
    print_stderr,
    progress_bar,
    read_moment,
)
from everloop.local.discovery import Installation, find_installation
from everloop.topics import reader
from everloop_schemas.decision_chain import Break, Chain
from everloop_schemas.registry import Decided
from everloop_shared.settings import Settings
from everloop_shared.signing import trust_of

Since = Annotated[str | None, typer.Option("--since", metavar="TIME", help="Not before then, RFC 3339.")]
By = Annotated[
    str | None, typer.Option("--actor", metavar="NAME", help="Only by this person, key or service: everloop/registry.")
]
Until = Annotated[str | None, typer.Option("--until", metavar="TIME", help="Before then, RFC 3339.")]
Action = Annotated[
    str | None,
    typer.Option("--action", metavar="NAME", help="Only this action of `everloop roles`, or event: model_promoted."),
]
From = Annotated[str | None, typer.Option("--address", metavar="IP", help="Only requests from this address.")]
Refused = Annotated[bool, typer.Option("--refused", help="Only requests that were refused.")]
OneLoop = Annotated[str | None, typer.Argument(metavar="[LOOP]", help="Only this loop. Default: all.")]


def register(app: typer.Typer) -> None:
    """Mount `audit list` and `audit verify`."""
    audit = typer.Typer(no_args_is_help=True, help="List and verify what was decided, from the topics alone.")
    audit.callback()(_audit)
    audit.command("list", epilog="Example: everloop audit list churn --actor alice@example.com")(list_entries)
    audit.command("verify", epilog="Example: everloop audit verify churn")(verify)
    app.add_typer(audit, name="audit")


def _audit() -> None:
    pass


def list_entries(
    loop: OneLoop = None,
    since: Since = None,
    until: Until = None,
    actor: By = None,
    action: Action = None,
    address: From = None,
    refused: Refused = False,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List who did what, newest last: recorded requests with what they led to, and what events led to by themselves.

    Requests have the address, the request id and the answer; decisions, runs, searches, letters sent again and
    experiments the trace id or the event that led to them. They are read from the topics alone. Whether decisions are
    those that were made, `verify` says.
    """
    # Imported here, as other commands do without these classes.
    from everloop.cli.audit_entries import TOPICS, Entries, Wanted, table_of

    times = {"since": read_moment("--since", since), "until": read_moment("--until", until)}
    entries = Entries(Wanted(loop, actor=actor, action=action, address=address, refused=refused, **times))
    asyncio.run(_read(find_installation(data), TOPICS, entries.add))
    found = entries.newest_last()
    if as_json:
        listed = [entry.for_programs() for entry in found]
        print_json({"entries": listed, "left_out": entries.left_out, "strangers": entries.strangers})
    elif found:
        print_result(table_of(found))
    if entries.left_out:
        print_stderr(f"{entries.left_out:,} older entries are left out; ask for fewer with LOOP, --since or --actor")
    if entries.strangers:
        print_stderr(f"{entries.strangers:,} records on these topics are none of these events")


def verify(loop: OneLoop = None, data: Data = None, as_json: Json = False) -> None:
    """Verify that no decision was altered, removed, inserted or reordered since it was made.

    Each decision carries the SHA-256 of the one before it, and the loop's state that of the last one. They are read
    from the topics alone. The first break of each loop is named, and the status is 1. Keep a loop's last hash
    elsewhere: whoever can write a whole log anew can chain it anew. Where EVERLOOP_TRUSTED_KEYS is set, a record that
    none of these keys signed is named and left out, as by a rebuild, and the status is 1 too.
    """
    from everloop.cli.signed_decisions import TOPICS as CHAINED  # imported here, as other commands do without
    from everloop.cli.signed_decisions import SignedDecisions

    decisions = SignedDecisions(trust_of(Settings.load("audit")))
    asyncio.run(_read(find_installation(data), CHAINED, decisions.add))
    loops, refused = decisions.chains.loops, [one for one in decisions.refused if loop in (None, one.loop)]
    if loop is not None and loop not in loops and not refused:
        raise CommandFailed(f"there is no decision about {loop!r} on {Decided.topic.name}")
    chosen = [chain for name, chain in sorted(loops.items()) if loop in (None, name)]
    breaks = [chain.find_break() for chain in chosen]
    strangers = decisions.chains.strangers if loop is None else 0
    if as_json:
        whole = [_described(*pair) for pair in zip(chosen, breaks, strict=True)]
        left_out = [one._asdict() for one in refused]
        print_json({"loops": whole, "records_that_are_no_decisions": strangers, "refused": left_out})
    else:
        print_result(*(_told(chain) for chain, found in zip(chosen, breaks, strict=True) if not found and chain.head))
    broken = [*map(str, refused), *(str(found) for found in breaks if found is not None)]
    if decisions.unnamed:
        broken.append(f"{decisions.unnamed:,} more records have no signature that counts")
    if strangers:
        broken.append(f"{strangers:,} records on {' and '.join(CHAINED)} are no decisions and no states")
    if broken:
        raise CommandFailed("\n".join(broken))


async def _read(installation: Installation, names: Sequence[str], add: Callable[[str, bytes], None]) -> None:
    columns = (TextColumn("{task.completed:,} records"), TimeElapsedColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("reading the log", total=None)
        async with reader(installation, names, "audit") as topics:
            while await topics.behind():
                for record in await topics.read():
                    add(record.topic, record.value)
                    bar.advance(task)


def _told(chain: Chain) -> str:
    last = chain.head.hash if chain.head else None
    return f"{chain.loop}: {len(chain.links):,} decisions, none was changed; the last has the hash {last}"


def _described(chain: Chain, found: Break | None) -> dict[str, object]:
    about = {"loop": chain.loop, "decisions": len(chain.links), "head": chain.head.hash if chain.head else None}
    broken = found and {"sequence": found.sequence, "kind": found.kind, "evidence": found.evidence}
    return {**about, "whole": found is None, "break": broken}
