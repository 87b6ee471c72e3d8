"""The keys of personal values of a local installation: their store, and the master key that wraps them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from everloop_schemas.topology import SERVICES
from everloop_shared.personal.master import create_master_key

FOLDER, MASTER, STORE = "personal", "master.key", "keys.db"
OPENING = ("ingest", "feature", "serving", "training")
"""The services that seal or open personal values; the others never hold the master key."""


def make_personal_keys(folder: Path, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Make the master key where there is none; the settings of the services that need it, by their own names.

    Settings that the user gives to all services stay in force.
    """
    master = folder / FOLDER / MASTER
    own = {"PERSONAL_KEYS_URL": f"sqlite:///{folder.absolute() / FOLDER / STORE}", "PERSONAL_MASTER_KEY": str(master)}
    if any(environ.get(f"EVERLOOP_{name}") for name in own):
        return {}
    create_master_key(master)
    return {SERVICES[service].variable(name): value for service in OPENING for name, value in own.items()}
