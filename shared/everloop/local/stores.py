"""The artifact store that the services of an installation use."""

from __future__ import annotations

from typing import Any

from everloop.local.discovery import Installation
from everloop_shared.settings import StoreSettings


def store_settings(installation: Installation) -> StoreSettings:
    """Those of training; services on the memory bus have their files apart, and no store that outlives them."""
    changed: dict[str, Any] = {"data": installation.files}
    if installation.topics:
        changed["artifacts"] = ""
    return StoreSettings.load("training").model_copy(update=changed)
