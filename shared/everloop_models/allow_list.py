"""What a pickle may ask for and do: exactly what the pickles of all models that a spec can name were seen to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from everloop_models.opcodes import Use

Name = tuple[str, str]
"""A module and a name in it."""


@dataclass(frozen=True)
class Allowed:
    """The uses of names that are allowed in a pickle `of` some kind, such as a model.

    `libraries` are the packages whose objects may be asked for their own methods. `moved` maps names in older pickles
    to where they are now.
    """

    of: str
    uses: frozenset[Use]
    libraries: frozenset[str] = frozenset()
    moved: Mapping[Name, Name] = field(default_factory=dict)

    @cached_property
    def names(self) -> frozenset[Name]:
        """The names alone."""
        return frozenset((use.module, use.name) for use in self.uses)

    @classmethod
    def union(cls, of: str, lists: Sequence[Allowed]) -> Allowed:
        """All that is in any of the lists."""
        uses = frozenset().union(*(each.uses for each in lists))
        libraries = frozenset().union(*(each.libraries for each in lists))
        return cls(of, uses, libraries, {old: new for each in lists for old, new in each.moved.items()})

    def plus(self, of: str, uses: Iterable[Use]) -> Allowed:
        """These uses and more."""
        return replace(self, of=of, uses=self.uses.union(uses))

    def renamed(self, use: Use) -> Use:
        """A use with the name that its class has now."""
        module, name = self.moved.get((use.module, use.name), (use.module, use.name))
        return use._replace(module=module, name=name)


def read(of: str, file: Path, libraries: Iterable[str] = (), moved: Mapping[Name, Name] | None = None) -> Allowed:
    """The list in a file: a line for each name, `module name: how, how`."""
    found = set()
    for line in file.read_text().splitlines():
        name, _, ways = line.partition(": ")
        module, _, name = name.partition(" ")
        found |= {Use(module, name, how) for how in ways.split(", ")}
    return Allowed(of, frozenset(found), frozenset(libraries), moved or {})


def format_uses(found: Iterable[Use]) -> str:
    """The list as `read` reads it."""
    ways: dict[Name, list[str]] = {}
    for use in sorted(found):
        ways.setdefault((use.module, use.name), []).append(use.how)
    return "".join(f"{module} {name}: {', '.join(how)}\n" for (module, name), how in ways.items())
