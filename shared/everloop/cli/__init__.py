"""The `everloop` program: one command for each thing a person does with an installation and its loops."""

from __future__ import annotations

import os
from importlib import import_module
from importlib.util import find_spec

import typer

from everloop.cli import commands, data, replay
from everloop.cli.output import Told
from everloop_shared.settings import PRIVATE_UMASK

EXTENSIONS = ("everloop.local.commands", "everloop.demo.commands", "everloop.backup.commands")
"""Rooms that bring commands of their own: each has `register(app)`."""


def build() -> typer.Typer:
    """The whole program."""
    app = typer.Typer(
        cls=Told,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Keep production models fresh: loops of events, predictions, labels and models on Kafka.",
    )
    app.callback()(_everloop)
    for room in (commands, data, replay):
        room.register(app)
    for name in EXTENSIONS:
        if find_spec(name.rpartition(".")[0]) and find_spec(name):
            import_module(name).register(app)
    return app


def _everloop() -> None:
    pass


def main() -> None:
    """The entry point. Whatever a command writes, it writes for its user alone."""
    os.umask(PRIVATE_UMASK)
    build()()
