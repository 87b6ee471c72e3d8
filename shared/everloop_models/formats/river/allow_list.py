"""What the pickles of River models may ask for and do."""

from __future__ import annotations

from pathlib import Path

from everloop_models.allow_list import read

FILE = Path(__file__).with_name("allowed.txt")
"""Written by `python -m everloop_models.formats.river.survey`."""
MOVED = {
    ("everloop_models.model", "Model"): ("everloop_models.formats.river.model", "RiverModel"),
    ("everloop_models.scaling", "Limits"): ("everloop_models.scaling", "ValueClipper"),
}
"""Names in artifacts of earlier releases, and where the classes are now."""
ALLOWED = read("model", FILE, libraries=("river",), moved=MOVED)
