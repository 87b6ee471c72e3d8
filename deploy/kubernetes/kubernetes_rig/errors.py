"""What a person at the terminal is told."""

from __future__ import annotations


class RigError(Exception):
    """The rig cannot do what was asked; the text says why, and what to do."""
