"""The commands for auditors: whether the decisions on the log are those that were made."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer
from rich.progress import TextColumn, TimeElapsedColumn

from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, progress_bar
from everloop.local.discovery import Installation, find_installation
from everloop.topics import reader
from everloop_schemas.decision_chain import Break, Chain, DecisionChains
from everloop_schemas.registry import Decided, LoopState

TOPICS = (Decided.topic.name, LoopState.topic.name)
OneLoop = Annotated[str | None, typer.Argument(metavar="[LOOP]", help="Only this loop. Default: all.")]


def register(app: typer.Typer) -> None:
    """Mount `audit verify`."""
    audit = typer.Typer(no_args_is_help=True, help="Verify what was decided, from the topics alone.")
    audit.callback()(_audit)
    audit.command("verify", epilog="Example: everloop audit verify churn")(verify)
    app.add_typer(audit, name="audit")


def _audit() -> None:
    pass


def verify(loop: OneLoop = None, data: Data = None, as_json: Json = False) -> None:
    """Verify that no decision was altered, removed, inserted or reordered since it was made.

    Each decision carries the SHA-256 of the one before it, and the loop's state that of the last one. They are read
    from the topics alone. The first break of each loop is named, and the status is 1. Keep a loop's last hash
    elsewhere: whoever can write a whole log anew can chain it anew.
    """
    chains = asyncio.run(_read(find_installation(data)))
    if loop is not None and loop not in chains.loops:
        raise CommandFailed(f"there is no decision about {loop!r} on {Decided.topic.name}")
    chosen = [chain for name, chain in sorted(chains.loops.items()) if loop in (None, name)]
    breaks = [chain.find_break() for chain in chosen]
    strangers = chains.strangers if loop is None else 0
    if as_json:
        whole = [_described(*pair) for pair in zip(chosen, breaks, strict=True)]
        print_json({"loops": whole, "records_that_are_no_decisions": strangers})
    else:
        for chain, found in zip(chosen, breaks, strict=True):
            if found is None and chain.head is not None:
                told = f"{len(chain.links):,} decisions, none was changed; the last has the hash {chain.head.hash}"
                print_result(f"{chain.loop}: {told}")
    broken = [str(found) for found in breaks if found is not None]
    if strangers:
        broken.append(f"{strangers:,} records on {' and '.join(TOPICS)} are no decisions and no states")
    if broken:
        raise CommandFailed("\n".join(broken))


async def _read(installation: Installation) -> DecisionChains:
    chains = DecisionChains()
    add = {TOPICS[0]: chains.add_decision, TOPICS[1]: chains.add_state}
    columns = (TextColumn("{task.completed:,} records"), TimeElapsedColumn())
    with progress_bar(*columns) as bar:
        task = bar.add_task("reading the log", total=None)
        async with reader(installation, TOPICS, "audit") as topics:
            while await topics.behind():
                for record in await topics.read():
                    add[record.topic](record.value)
                    bar.advance(task)
    return chains


def _described(chain: Chain, found: Break | None) -> dict[str, object]:
    about = {"loop": chain.loop, "decisions": len(chain.links), "head": chain.head.hash if chain.head else None}
    broken = found and {"sequence": found.sequence, "kind": found.kind, "evidence": found.evidence}
    return {**about, "whole": found is None, "break": broken}
