"""What pickles may ask for and do: exactly what those of every model and of every river estimator were seen to do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from everloop_models.opcodes import Use


class Allowed(NamedTuple):
    """The uses of names that are allowed, the names alone, and what is made of them, in a word."""

    of: str
    uses: frozenset[Use]
    names: frozenset[tuple[str, str]]

    @classmethod
    def these(cls, of: str, uses: Iterable[Use]) -> Allowed:
        """Just these."""
        found = frozenset(uses)
        return cls(of, found, frozenset((use.module, use.name) for use in found))

    def plus(self, of: str, uses: Iterable[Use]) -> Allowed:
        """These and more."""
        return Allowed.these(of, self.uses.union(uses))


def read(of: str, file: Path) -> Allowed:
    """The list in a file: a line for each name, `module name: how, how`."""
    found = set()
    for line in file.read_text().splitlines():
        name, _, ways = line.partition(": ")
        module, _, name = name.partition(" ")
        found |= {Use(module, name, how) for how in ways.split(", ")}
    return Allowed.these(of, found)


def written(found: Iterable[Use]) -> str:
    """The list as `read` reads it."""
    ways: dict[tuple[str, str], list[str]] = {}
    for use in sorted(found):
        ways.setdefault((use.module, use.name), []).append(use.how)
    return "".join(f"{module} {name}: {', '.join(how)}\n" for (module, name), how in ways.items())


MODELS_FILE = Path(__file__).with_name("allowed.txt")
MODELS = read("model", MODELS_FILE)
