"""The keys of personal values of a local installation: their store, and the master key that wraps them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from everloop_schemas.topology import SERVICES
from everloop_shared.personal.master import create_master_key
from everloop_shared.settings import Settings

KEYS, MASTER_KEY = Path("personal", "keys.db"), Path("personal", "master.key")
"""Below the folder of the installation."""
S = TypeVar("S", bound=Settings)
OPENING = ("ingest", "feature", "serving", "training")
"""The services that seal or open personal values; the others never hold the master key."""


def keys_url(folder: Path) -> str:
    """The store of keys of the installation in a folder."""
    return f"sqlite:///{folder.absolute() / KEYS}"


def make_personal_keys(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Make the master key where there is none; the settings of the services that need it, by their own names.

    Settings that the user gives to all services stay in force.
    """
    master = folder / MASTER_KEY
    own = {"PERSONAL_KEYS_URL": keys_url(folder), "PERSONAL_MASTER_KEY": str(master)}
    if any(environ.get(f"EVERLOOP_{name}") for name in own):
        return {}
    create_master_key(master)
    return {SERVICES[service].variable(name): value for service in OPENING for name, value in own.items()}


def with_keys_of(folder: Path, settings: S) -> S:
    """The settings with the keys of the installation in a folder, where they name none and it has some."""
    if settings.personal_keys_url or not (folder / KEYS).exists():
        return settings
    master = settings.personal_master_key or folder / MASTER_KEY
    return settings.model_copy(update={"personal_keys_url": keys_url(folder), "personal_master_key": master})
