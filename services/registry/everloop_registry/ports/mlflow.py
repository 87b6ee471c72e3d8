"""What MLflow's API needs from outside: experiments, runs, models and their files."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import IO, Protocol

from everloop_registry.domain.artifact_paths import FileEntry, OpenFile
from everloop_registry.domain.decision_log import DecisionContext
from everloop_registry.domain.filters import Condition, Order
from everloop_registry.domain.pages import Page, Paging
from everloop_registry.domain.registered_models import ModelVersion, RegisteredModel
from everloop_registry.domain.run_search import LoggedRun, ViewType
from everloop_registry.domain.tracking import Experiment, LoggedModel, LoggedModelDetails, Run
from everloop_schemas.tracking import Metric, RunLogged, RunLoggedData


class TrackingStore(Protocol):
    """Stores experiments, runs, logged models and notes. Reads and writes belong to the open unit of work."""

    async def append(self, key: str, subject: str, data: RunLoggedData, context: DecisionContext) -> RunLogged:
        """Fold what is logged under a key into what is stored, and return it as an event, which must be published."""

    async def experiment(self, experiment: str) -> Experiment | None:
        """The experiment of this id."""

    async def experiment_named(self, name: str) -> Experiment | None:
        """The experiment of this name; of several the loop's."""

    async def run(self, run: str) -> Run | None:
        """The run of this id."""

    async def logged_model(self, model: str) -> LoggedModel | None:
        """The logged model of this id, unless it is deleted."""

    async def count_logged_models(self, experiment: str) -> int:
        """How many logged models an experiment ever had."""

    async def run_tags(self, run: str) -> dict[str, str]:
        """The tags of a run."""

    async def parameters(self, run: str) -> dict[str, str]:
        """The parameters of a run."""

    async def latest_metric(self, run: str, key: str) -> Metric | None:
        """The latest value of a metric."""

    async def count_runs(self, experiment: str) -> int:
        """How many runs an experiment has, deleted ones included."""

    async def count_experiments(self) -> int:
        """How many experiments there are."""

    async def is_loop(self, name: str) -> bool:
        """Whether there is or was a loop of this name."""

    async def has_living_loop(self, name: str) -> bool:
        """Whether there is a loop of this name that is not deleted."""

    async def has_version(self, loop: str, number: int) -> bool:
        """Whether a version of the loop has this number."""


class TrackingReader(Protocol):
    """Reads committed tracking data, outside any unit of work, for queries."""

    async def experiment(self, experiment: str) -> Experiment | None:
        """The experiment of this id."""

    async def experiment_named(self, name: str) -> Experiment | None:
        """The experiment of this name; of several the loop's."""

    async def experiment_tags(self, experiments: Sequence[str]) -> dict[str, dict[str, str]]:
        """The tags of experiments, by id."""


class LoopFinder(Protocol):
    """Finds the loop that something of MLflow's belongs to; deleted loops count, too."""

    async def loops(self) -> list[str]:
        """Every name that is or was a loop's."""

    async def of_experiment(self, experiment: str) -> str | None: ...
    async def of_experiment_named(self, name: str) -> str | None: ...
    async def of_run(self, run: str) -> str | None: ...
    async def of_logged_model(self, model: str) -> str | None: ...
    async def of_versions(self, run: str) -> list[str]:
        """The loops of the versions that a run led to."""


class RunReader(Protocol):
    """Reads and searches runs and experiments, for queries."""

    async def run(self, run: str) -> LoggedRun | None:
        """One run."""

    async def search_runs(
        self,
        experiments: Sequence[str],
        view: ViewType,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
    ) -> Page[LoggedRun]:
        """The runs of these experiments that match, the one that began last first unless ordered otherwise."""

    async def search_experiments(
        self,
        view: ViewType,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[tuple[Experiment, dict[str, str]]]:
        """The experiments that match with their tags, the one created last first unless ordered otherwise.

        `among` are the loops whose experiments are searched; None for every experiment.
        """

    async def metric_history(self, run: str, key: str, paging: Paging) -> Page[Metric]:
        """All values of a metric, in the order of their steps."""


class ModelReader(Protocol):
    """Reads loops and their versions as registered models and model versions, for queries."""

    async def model(self, name: str) -> RegisteredModel | None:
        """One registered model."""

    async def search_models(
        self,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[RegisteredModel]:
        """The models that match, by name unless ordered otherwise; of the loops `among`, None for all."""

    async def version(self, name: str, number: int) -> ModelVersion | None:
        """One version, of an earlier lifetime of the loop too."""

    async def search_versions(
        self,
        conditions: Sequence[Condition],
        orders: Sequence[Order],
        paging: Paging,
        among: Collection[str] | None = None,
    ) -> Page[ModelVersion]:
        """The versions of the loops' present lifetimes that match, latest first unless ordered otherwise.

        Of the loops `among`, None for all.
        """


class ArtifactFiles(Protocol):
    """The files of runs, logged models and versions, by their paths below `mlflow-artifacts:/`.

    Raises ArtifactPathRefused for a path that leads anywhere else, and Unavailable while the store is away.
    """

    async def entries(self, path: str) -> list[FileEntry]:
        """What a folder holds; nothing where it does not exist, or is a file."""

    async def open(self, path: str) -> OpenFile:
        """A file, to be read; raises ArtifactNotFound."""

    async def check_writable(self, path: str) -> None:
        """Raise as `write` does, before there is anything to write."""

    async def write(self, path: str, file: IO[bytes], size: int) -> None:
        """Write a file of a run or of a logged model whole, or not at all.

        Raises ArtifactNotFound for an owner that does not exist, and TooManyFiles.
        """

    async def delete(self, path: str) -> None:
        """Delete a file or a folder of a run or of a logged model; idempotent."""


class LoggedModelReader(Protocol):
    """Reads committed logged models, outside any unit of work, for queries."""

    async def details(self, models: Sequence[LoggedModel]) -> list[LoggedModelDetails]:
        """What was logged about each."""

    async def logged_model(self, model: str) -> LoggedModel | None:
        """The logged model of this id, unless it is deleted."""

    async def search_logged_models(
        self, experiments: Sequence[str], conditions: Sequence[Condition], orders: Sequence[Order], paging: Paging
    ) -> Page[LoggedModelDetails]:
        """The logged models of experiments that match, newest first unless ordered otherwise."""

    async def named_in_run(self, run: str, name: str) -> LoggedModel | None:
        """The model that a run logged last under a name."""


class VersionNumbers(Protocol):
    """Knows the number of each version."""

    async def number(self, loop: str, version: str) -> int | None:
        """The number of a version, None for one that is not registered."""

    async def run(self, run: str) -> Run | None:
        """The run of this id."""
