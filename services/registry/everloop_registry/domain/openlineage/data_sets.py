"""The data sets of a loop's runs: ranges of its outcomes, its models, the topics that serving reads and writes."""

from __future__ import annotations

from typing import Any

from everloop_models.formats import ONLINE_FORMATS
from everloop_registry.domain.openlineage.event import Facets, LineageSource, Part
from everloop_registry.domain.openlineage.names import OUTCOMES
from everloop_schemas.feature import FeaturesComputed
from everloop_schemas.lineage_facets import LineageOffsets, LineageVersion
from everloop_schemas.loop import LoopSpec
from everloop_schemas.serving import PredictionMade
from everloop_schemas.training import DataSet, Manifest, ModelTrainedData, StoredModel

MAX_FIELDS = 1_000
"""Of a schema that is told."""


def learned(loop: str, manifest: Manifest) -> DataSet | None:
    """What a version has learned: where it learns outcome by outcome, those from its start to its version's offset.

    None for a model from elsewhere that names no data set.
    """
    if manifest.data_set is not None or manifest.format not in ONLINE_FORMATS:
        return manifest.data_set
    start, end = manifest.start_offset, manifest.end_offset
    return DataSet(loop=loop, start=start, end=end, revision=manifest.loop_revision)


def outcomes(source: LineageSource, offsets: LineageOffsets, features: tuple[str, ...], spec: LoopSpec | None) -> Part:
    """A range of a loop's outcomes on their topic, which the archive holds, too, where there is one."""
    facets: Facets = source.own(offsets)
    if table := source.names.archived_outcomes(offsets.loop):
        facets |= source.facet("symlinks", identifiers=[{**table._asdict(), "type": "TABLE"}])
    if spec is not None:
        facets |= source.facet("schema", fields=_outcome_fields(features, spec))
    read = {} if offsets.rows is None else source.facet("inputStatistics", rowCount=offsets.rows)
    return Part(source.names.topic(OUTCOMES), facets, read)


def named_outcomes(
    source: LineageSource,
    data_set: DataSet,
    partition: int,
    features: tuple[str, ...] = (),
    spec: LoopSpec | None = None,
) -> Part:
    """The outcomes of a data set."""
    offsets = LineageOffsets(
        loop=data_set.loop,
        topic=OUTCOMES.name,
        partition=partition,
        start=data_set.start,
        end=data_set.end,
        revision=data_set.revision,
        data_set=data_set.name,
        digest=data_set.digest,
        rows=data_set.rows,
    )
    return outcomes(source, offsets, features, spec)


def written_model(source: LineageSource, loop: str, model: ModelTrainedData) -> Part:
    """A version as it was written to the folder of its loop's models."""
    facets = _version(source, loop, model)
    facets |= source.facet("schema", fields=[{"name": name} for name in model.signature[:MAX_FIELDS]])
    written = source.facet("outputStatistics", size=model.size, fileCount=1)
    return Part(source.names.models(model.uri), facets, written)


def used_model(source: LineageSource, loop: str, model: ModelTrainedData) -> Part:
    """A version as it is read from the folder of its loop's models."""
    return Part(source.names.models(model.uri), _version(source, loop, model), {})


def stored_artifact(source: LineageSource, loop: str, line: str, stored: StoredModel) -> Part:
    """The model with which a line predicts, in the folder of its loop's models, before it is a version."""
    known = {"uri": stored.uri, "sha256": stored.sha256, "size": stored.size, "format": stored.format}
    facets = source.own(LineageVersion(loop=loop, line=line, **known))
    written = source.facet("outputStatistics", size=stored.size, fileCount=1)
    return Part(source.names.models(stored.uri), facets, written)


def vectors(source: LineageSource) -> Part:
    """The topic of vectors that serving predicts for."""
    return Part(source.names.topic(FeaturesComputed.topic), {}, {})


def predictions(source: LineageSource) -> Part:
    """The topic of predictions."""
    return Part(source.names.topic(PredictionMade.topic), {}, {})


def _version(source: LineageSource, loop: str, model: ModelTrainedData) -> Facets:
    facet = LineageVersion(
        loop=loop,
        version=model.version,
        line=model.line,
        uri=model.uri,
        sha256=model.sha256,
        size=model.size,
        format=model.manifest.format,
        metrics=model.manifest.metrics,
    )
    return source.own(facet) | source.facet("version", datasetVersion=model.version)


def _outcome_fields(features: tuple[str, ...], spec: LoopSpec) -> list[dict[str, Any]]:
    struct = {"name": "features", "type": "struct", "fields": [{"name": name} for name in features[:MAX_FIELDS]]}
    return [
        {"name": "prediction_id", "type": "string"},
        *([struct] if features else []),
        {"name": "label", "type": spec.label_type},
    ]
