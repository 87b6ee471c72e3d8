"""The commands that write what is known of a loop: its report, and the model card of a version."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from everloop.cli.collecting import collecting
from everloop.cli.output import CommandFailed, Data, Json, Loop, print_json, print_result, print_stderr
from everloop.reports.facts import LETTERS, PARTS

CARD_PARTS = tuple(name for name in PARTS if name not in ("series", "timeline", "objectives"))
Version = Annotated[str, typer.Argument(metavar="VERSION", help="The version's name; or champion, or candidate.")]
CardFile = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it here. Default: standard output.")
]
PageFile = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The page; - is standard output.")]


def register(app: typer.Typer) -> None:
    """Mount them."""
    app.command("model-card", epilog="Example: everloop model-card churn champion -o churn.md")(model_card)
    app.command("report", epilog="Example: everloop report churn -o report.html")(report)


def model_card(loop: Loop, version: Version, output: CardFile = None, data: Data = None, as_json: Json = False) -> None:
    """Write the model card of a version, in Markdown: what it is for, what it learned, how good it is, and for whom.

    It also has each decision about it, and what is known to be wrong now. What the services do not answer is left out,
    and said.
    """
    from everloop.reports.card_text import render_card  # for this command alone
    from everloop.reports.model_card import VersionNotKnown, build_card

    with collecting(data, loop, CARD_PARTS) as collector:
        facts = collector.collect()
    if facts.part("versions") is None:
        raise CommandFailed("the registry does not answer, and a model card begins with what it knows; try again")
    try:
        card = build_card(facts, version)
    except VersionNotKnown as e:
        raise CommandFailed(str(e)) from e
    if as_json:
        print_json(card)
        if output is None:
            return
    text = render_card(card)
    if output is None:
        typer.echo(text, nl=False)
    else:
        _write(output, text)
        if not as_json:
            print_result(f"{output} is the model card of {card['version']}")


def report(loop: Loop, output: PageFile = Path("report.html"), data: Data = None, as_json: Json = False) -> None:
    """Write one page about a loop that can be sent, printed and kept: it needs no network and no other file."""
    from everloop.reports.page import build_page  # for this command alone

    with collecting(data, loop, [name for name in (*PARTS, LETTERS) if name != "runs"]) as collector:
        facts = collector.collect()
    page = build_page(facts, datetime.now(UTC))
    if str(output) == "-":
        typer.echo(page, nl=False)
        return
    _write(output, page)
    missing = sorted(name for name, part in facts.parts.items() if part is None)
    if as_json:
        print_json({"loop": loop, "file": str(output), "bytes": len(page.encode()), "not_answered": missing})
        return
    print_result(f"{output} is the report of {loop}")
    if missing:
        print_stderr(f"not answered, and left out: {', '.join(missing)}")


def _write(file: Path, text: str) -> None:
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as e:
        raise CommandFailed(f"{file} cannot be written: {e.strerror}") from e
