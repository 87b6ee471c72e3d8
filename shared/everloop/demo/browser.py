"""Opens the console in the user's browser, where there is one to see it in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress

OPEN_WITHIN_S = 10.0


def has_browser(is_terminal: bool, variables: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Whether a person sits here and can see a browser: at a terminal, with a display, and not over SSH or in a CI."""
    if not is_terminal or variables.get("CI") or variables.get("SSH_CONNECTION"):
        return False
    return platform in ("darwin", "win32") or bool(variables.get("DISPLAY") or variables.get("WAYLAND_DISPLAY"))


def open_page(url: str) -> None:
    """Open the URL in the user's browser, whose own messages stay out of the terminal; nothing if that fails."""
    with suppress(subprocess.TimeoutExpired, OSError):
        subprocess.run(
            [sys.executable, "-m", "webbrowser", "-t", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=OPEN_WITHIN_S,
            check=False,
        )
