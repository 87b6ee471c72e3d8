"""Runs, data sets and versions of a loop, and how they belong together, as no standard has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class DataSet:
    """A range of the loop's outcomes, by its name; digest and number of rows once it was read."""

    name: str
    loop: str
    start: int
    end: int
    revision: int
    digest: str | None = None
    rows: int | None = None


@dataclass(frozen=True)
class Version:
    """A version of a model: where its bytes are, and what it was made of.

    `learned` is the data set that it was trained on or, where its line learns each outcome, has learned so far; None
    for a model from elsewhere that names none. `slot` is `champion` or `candidate` where it is one now; of one that is
    not `kept` the bytes may be gone.
    """

    name: str
    run: str
    line: str
    reason: str
    uri: str
    sha256: str
    size: int
    format: str
    revision: int
    registered: str
    slot: str | None
    kept: bool
    signature: tuple[str, ...]
    learned: DataSet | None
    metrics: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """A run with all versions that came of it, oldest first; `data_set` where it trains a model on one.

    Of a run that training does not list any more, because it is one of too many, only that is known which its versions
    say; the rest is None.
    """

    name: str
    line: str
    state: str
    model: Mapping[str, object]
    trigger: str | None = None
    reason: str | None = None
    start_offset: int | None = None
    requested: str | None = None
    finished: str | None = None
    outcomes: int | None = None
    failure: str | None = None
    seconds: float | None = None
    trainer: str | None = None
    data_set: DataSet | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    versions: tuple[Version, ...] = ()

    def inputs(self) -> list[DataSet]:
        """The data sets of the run and its versions, in this order, each once."""
        given = [self.data_set, *(version.learned for version in self.versions)]
        return list({one.name: one for one in given if one is not None}.values())


@dataclass(frozen=True)
class Lineage:
    """The runs of one loop in its present lifetime, oldest first."""

    loop: str
    task: str
    revision: int
    runs: tuple[Run, ...]
