"""What a key may sign."""

from __future__ import annotations

from typing import Literal

Use = Literal["artifacts", "decisions", "snapshots", "backups"]
"""Models and what training says of them; the registry's decisions and states; what learners remember; backups."""
USES: tuple[Use, ...] = ("artifacts", "decisions", "snapshots", "backups")
