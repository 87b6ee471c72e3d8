"""A RunEvent of OpenLineage 2-0-2, and those of its standard facets that Everloop fills."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from everloop_registry.domain.openlineage.names import DataSetName, DataSetNames
from everloop_schemas.envelope import derived_id
from everloop_schemas.lineage_facets import PRODUCER, SCHEMA_URL, LineageFacet

SPEC = "https://openlineage.io/spec"
RUN_EVENT = f"{SPEC}/2-0-2/OpenLineage.json#/$defs/RunEvent"
FACETS = {
    "schema": ("SchemaDatasetFacet", "1-2-0"),
    "symlinks": ("SymlinksDatasetFacet", "1-0-1"),
    "version": ("DatasetVersionDatasetFacet", "1-0-1"),
    "inputStatistics": ("InputStatisticsInputDatasetFacet", "1-0-0"),
    "outputStatistics": ("OutputStatisticsOutputDatasetFacet", "1-0-2"),
    "documentation": ("DocumentationJobFacet", "1-1-0"),
    "jobType": ("JobTypeJobFacet", "2-0-4"),
    "ownership": ("OwnershipJobFacet", "1-0-1"),
    "sourceCode": ("SourceCodeJobFacet", "1-0-1"),
    "errorMessage": ("ErrorMessageRunFacet", "1-0-1"),
    "nominalTime": ("NominalTimeRunFacet", "1-0-1"),
    "parent": ("ParentRunFacet", "1-2-0"),
    "processing_engine": ("ProcessingEngineRunFacet", "1-1-1"),
}
"""Each standard facet's class and release."""
ENGINE = "Everloop"
State = Literal["START", "RUNNING", "COMPLETE", "FAIL", "ABORT"]
Job = Literal["train", "register", "rollout", "serve"]
JOBS: Mapping[Job, tuple[str, str, str]] = {
    "train": ("BATCH", "TRAINING", "Learns the outcomes of loop {loop}: a line starts, or a model is trained for it."),
    "register": ("BATCH", "REGISTRATION", "Checks versions that were trained for loop {loop}, and registers them."),
    "rollout": ("BATCH", "ROLLOUT", "Brings a candidate of loop {loop} into service step by step, or takes it back."),
    "serve": ("SERVICE", "SERVING", "Predicts for loop {loop}; each champion is a run."),
}
"""By job of a loop, how it is processed, what type it is, and what it does."""
Facets = dict[str, Any]
RunEvent = dict[str, Any]


class Part(NamedTuple):
    """A data set that a run reads or writes; `moved` are the facets about what was read or written this time."""

    name: DataSetName
    facets: Facets
    moved: Facets


@dataclass(frozen=True)
class LineageSource:
    """Who tells: the namespace of its jobs, the names of its data sets, and its release."""

    namespace: str
    names: DataSetNames
    release: str

    @property
    def producer(self) -> str:
        """What made the events, as a URI."""
        return f"https://everloop.io/releases/{self.release}"

    def run_id(self, loop: str, job: Job, key: str | int) -> str:
        """The id of a run, the same whenever it is told."""
        return derived_id(loop, f"openlineage/{self.namespace}/{job}", key)

    def facet(self, key: str, **members: Any) -> Facets:
        """A standard facet, by its key."""
        name, release = FACETS[key]
        url = f"{SPEC}/facets/{release}/{name}.json#/$defs/{name}"
        return {key: {PRODUCER: self.producer, SCHEMA_URL: url, **members}}

    def own(self, facet: LineageFacet) -> Facets:
        """A facet of Everloop's own."""
        return {facet.key: facet.render(self.producer)}

    def parent(self, loop: str, run: str | None) -> Facets:
        """The facet that names a training's run as the parent; none where no run is known."""
        if run is None:
            return {}
        job = {"namespace": self.namespace, "name": f"{loop}.train"}
        return self.facet("parent", run={"runId": self.run_id(loop, "train", run)}, job=job)

    def event(
        self,
        state: State,
        time: datetime,
        loop: str,
        job: Job,
        run: str,
        *,
        run_facets: Facets,
        job_facets: Facets | None = None,
        inputs: Sequence[Part] = (),
        outputs: Sequence[Part] = (),
    ) -> RunEvent:
        """The state of a run, of id `run`, at a time."""
        processing, kind, about = JOBS[job]
        always = {
            **self.facet("jobType", processingType=processing, integration="EVERLOOP", jobType=kind),
            **self.facet("documentation", description=about.format(loop=loop)),
        }
        engine = self.facet("processing_engine", version=self.release, name=ENGINE)
        return {
            "eventType": state,
            "eventTime": time.isoformat(),
            "producer": self.producer,
            "schemaURL": RUN_EVENT,
            "run": {"runId": run, "facets": {**engine, **run_facets}},
            "job": {"namespace": self.namespace, "name": f"{loop}.{job}", "facets": {**always, **(job_facets or {})}},
            "inputs": [_data_set(part, "inputFacets") for part in inputs],
            "outputs": [_data_set(part, "outputFacets") for part in outputs],
        }


def _data_set(part: Part, moved: str) -> dict[str, Any]:
    namespace, name = part.name
    return {"namespace": namespace, "name": name, "facets": part.facets, moved: part.moved}
