"""The commands about the keys that seal personal values: how many there are, and another master key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import MofNCompleteColumn, TimeRemainingColumn
from rich.table import Table

from everloop.cli.output import CommandFailed, Data, Json, print_json, print_result, progress_bar
from everloop.extras import require_local
from everloop.local.discovery import MEMORY_FOLDER, data_folder
from everloop_shared.errors import ServiceError
from everloop_shared.settings import Settings

if TYPE_CHECKING:  # what reads the store is not part of the light installation
    from everloop_shared.personal.key_store import KeyStore

Prepare = Annotated[
    bool,
    typer.Option(
        "--prepare", help="Write the new key, and wrap nothing yet: copy the file to all machines, then run it without."
    ),
]


def register(app: typer.Typer) -> None:
    """Mount `personal-keys status`, `rotate` and `retire`."""
    keys = typer.Typer(
        no_args_is_help=True, help="Count the keys that seal personal values, and rotate the master key."
    )
    keys.callback()(_keys)
    keys.command("status", epilog="Example: everloop personal-keys status --json")(status)
    keys.command("rotate", epilog="Example: everloop personal-keys rotate")(rotate)
    keys.command("retire", epilog="Example: everloop personal-keys retire")(retire)
    app.add_typer(keys, name="personal-keys")


def _keys() -> None:
    pass


def status(data: Data = None, as_json: Json = False) -> None:
    """Count the keys of each loop, and by which master key they are wrapped; no key is shown."""
    from everloop_shared.personal.master import read_master_keys

    store, master = _open(data)
    with _failing():
        loops, wrapped = store.count(), store.count_wrapped()
        in_file = [key.id for key in read_master_keys(master)]
    if as_json:
        print_json({"loops": loops, "master_keys": in_file, "wrapped_by": wrapped})
        return
    table = Table("loop", "keys", box=None, pad_edge=False, header_style="bold")
    for loop, number in sorted(loops.items()):
        table.add_row(loop, f"{number:,}")
    print_result(table, f"{master}: {', '.join(in_file)}; the first one wraps new keys")
    for key, number in sorted(wrapped.items()):
        print_result(f"{number:,} keys are wrapped by {key}" + ("" if key in in_file else ", which is not in the file"))


def rotate(prepare: Prepare = False, data: Data = None, as_json: Json = False) -> None:
    """Make a new master key and wrap all keys by it, while services go on; run again, it goes on where it ended.

    The old master key stays in the file until `retire`, so that services find either.
    """
    from everloop_shared.personal.rotation import add_master_key, wrap_again

    store, master = _open(data)
    with _failing(), progress_bar(MofNCompleteColumn(), TimeRemainingColumn()) as bar:
        new = add_master_key(master, store)
        task = bar.add_task("wrapping", total=sum(n for key, n in store.count_wrapped().items() if key != new.id))
        done = 0 if prepare else wrap_again(master, store, lambda n: bar.advance(task, n))
    if as_json:
        print_json({"master_key": new.id, "wrapped": done})
    elif prepare:
        print_result(f"{new.id} is in {master}; copy the file to all machines, then: everloop personal-keys rotate")
    else:
        print_result(
            f"{done:,} keys are wrapped by {new.id} now; remove the old master key: everloop personal-keys retire"
        )


def retire(data: Data = None, as_json: Json = False) -> None:
    """Remove the master keys that wrap nothing any more from the file."""
    from everloop_shared.personal.rotation import retire as retire_old

    store, master = _open(data)
    with _failing():
        removed = retire_old(master, store)
    print_json({"removed": removed}) if as_json else print_result(
        f"{removed} old master keys are removed from {master}"
    )


def _open(data: str | None) -> tuple[KeyStore, Path]:
    """The store of keys and the file of the master key, of the environment or of a local installation."""
    require_local("everloop personal-keys")
    from everloop.local.personal import MASTER_KEY, keys_url
    from everloop_shared.personal.key_store import KeyStore

    settings = Settings.load("personal-keys")
    url, master = settings.personal_keys_url, settings.personal_master_key
    if not url or master is None:
        folder = _folder(data, MASTER_KEY)
        url, master = url or keys_url(folder), master or folder / MASTER_KEY
    if not master.exists():
        raise CommandFailed(f"there is no master key at {master}: no loop of this installation has personal fields")
    with _failing():
        return KeyStore(url), master


def _folder(data: str | None, file: Path) -> Path:
    """Which of an installation's folders on this machine has the file, whether it runs or not; without it the first."""
    folder = data_folder(data)
    return next((place for place in (folder, folder / MEMORY_FOLDER) if (place / file).exists()), folder)


class _failing:
    """Says what cannot be done in one sentence."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ServiceError):
            raise CommandFailed(error.detail) from error
