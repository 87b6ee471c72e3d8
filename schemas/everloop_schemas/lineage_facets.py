"""The facets of Everloop's own in OpenLineage's events: what runs, decisions, offsets and versions are.

OpenLineage's rules for custom facets: a facet's key begins with a prefix of its maker's, and each facet names the
schema that it follows by `_schemaURL` (https://openlineage.io/docs/spec/facets/custom-facets).
"""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from everloop_schemas.envelope import ControlData

RELEASE = "1-0-0"
"""Of these schemas. An incompatible change is a new release, so that what was sent keeps its meaning."""
PRODUCER, SCHEMA_URL = "_producer", "_schemaURL"
URL = f"https://everloop.io/schemas/{RELEASE}/"
"""Where `_schemaURL` says that schemas are: it is their name, and nothing is fetched from there."""


class LineageFacet(ControlData):
    """A facet; `key` is its name in an event."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        frozen=True, extra="ignore", allow_inf_nan=False, alias_generator=to_camel, populate_by_name=True
    )
    key: ClassVar[str]

    @classmethod
    def file(cls) -> str:
        """The name of the file with its schema."""
        return f"openlineage.{cls.key}.json"

    def render(self, producer: str) -> dict[str, Any]:
        """The facet as it is in an event; what is not known is left out."""
        known = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {PRODUCER: producer, SCHEMA_URL: URL + self.file(), **known}


class LineageRun(LineageFacet):
    """Of a training's run: why it was requested, as `training.run_requested` has it.

    `causationid` is the id of the event behind it (of a drift, the drift's), `requested_by` who gave the command.
    """

    key: ClassVar[str] = "everloop_run"
    loop: str
    revision: int
    run: str
    line: str
    trigger: str
    reason: str
    causationid: str | None = None
    requested_by: str | None = None
    start_offset: int
    requested_offset: int
    model: dict[str, Any]


class LineageRunEnd(LineageFacet):
    """Of a training's run: how it ended, as `training.run_finished` has it."""

    key: ClassVar[str] = "everloop_runEnd"
    state: str
    offset: int
    outcomes: int
    seconds: float | None = None
    trainer: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


class LineageDecision(LineageFacet):
    """Of a run that follows decisions: the one behind this event, with its number in the log and who made it.

    `run` is the training's run behind the version, `causationid` the id of the event that led to the decision.
    """

    key: ClassVar[str] = "everloop_decision"
    loop: str
    revision: int
    sequence: int
    decision: str
    subject: str
    reason: str | None = None
    actor: str | None = None
    causationid: str | None = None
    run: str | None = None
    stage: str | None = None
    share: float | None = None
    champion: str | None = None
    candidate: str | None = None


class LineageOffsets(LineageFacet):
    """Of a topic that was read: which outcomes, both offsets included; without `end` those that follow, too.

    `data_set` is the range's name, by which `everloop` reads the same rows again.
    """

    key: ClassVar[str] = "everloop_offsets"
    loop: str
    topic: str
    partition: int | None = None
    start: int
    end: int | None = None
    revision: int | None = None
    data_set: str | None = None
    digest: str | None = None
    rows: int | None = None


class LineageVersion(LineageFacet):
    """Of a loop's models: the version that was written or used, and where its artifact is."""

    key: ClassVar[str] = "everloop_version"
    loop: str
    version: str | None = None
    line: str | None = None
    uri: str | None = None
    sha256: str | None = None
    size: int | None = None
    format: str | None = None
    metrics: dict[str, float] = Field(default_factory=dict)


FACETS = (LineageRun, LineageRunEnd, LineageDecision, LineageOffsets, LineageVersion)


def build_facet_schema(facet: type[LineageFacet]) -> dict[str, Any]:
    """The JSON Schema of a facet as it is in an event."""
    schema = facet.model_json_schema(by_alias=True)
    uri = {"type": "string", "format": "uri"}
    properties = {PRODUCER: uri, SCHEMA_URL: {**uri, "const": URL + facet.file()}, **schema["properties"]}
    return {**schema, "properties": properties, "required": [PRODUCER, SCHEMA_URL, *schema.get("required", ())]}
