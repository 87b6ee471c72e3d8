"""What holds for every OpenLineage event that the registry sends, and a registry that sends them to a receiver."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
from openapi_schema_validator import OAS31Validator
from tests.databases import database_url
from tests.monitoring.http_receiver import HttpReceiver
from tests.registry.registry_harness import registry_on

from everloop_registry.settings import RegistrySettings
from everloop_shared.clock import read_time
from everloop_shared.messaging.memory import MemoryBroker

SCHEMAS = Path(__file__).parents[2] / "schemas/json"
OPENS, ENDS = "START", ("COMPLETE", "FAIL", "ABORT")
Sent = Mapping[str, Any]


@asynccontextmanager
async def telling(
    broker: MemoryBroker, folder: Path, receiver: HttpReceiver, **settings: Any
) -> AsyncIterator[httpx.AsyncClient]:
    """A registry that tells a backend, on a database in a folder."""
    chosen = {"openlineage_url": receiver.url, "kafka_bootstrap": "kafka.example:9092", **settings}
    service = RegistrySettings(data=folder, port=0, database_url=database_url(folder), settle_s=0.0, **chosen)
    async with registry_on(broker.engine, service) as client:
        yield client


def sent(receiver: HttpReceiver) -> list[Sent]:
    """The events that came, in order; one that came again, as its answer was lost or late, once."""
    return [json.loads(body) for body in dict.fromkeys(received.body for received in list(receiver.received))]


def told(events: Sequence[Sent]) -> list[tuple[str, str]]:
    """Each event's job without its loop, and the state of its run."""
    return [(event["job"]["name"].partition(".")[2], event["eventType"]) for event in events]


def check_events(events: Sequence[Sent]) -> None:
    """Check what holds for each event, and for each run: it begins once, before all else, and ends once at most."""
    runs = defaultdict[str, list[str]](list)
    for event in events:
        assert UUID(event["run"]["runId"]).version == 5
        assert read_time(event["eventTime"]) is not None
        runs[event["run"]["runId"]].append(event["eventType"])
        for facet_key, facet in facets_of(event):
            assert facet["_producer"] == event["producer"]
            if facet_key.startswith("everloop_"):
                check_own_facet(facet_key, facet)
    for states in runs.values():
        assert (states[0], states.count(OPENS)) == (OPENS, 1), states
        assert [state for state in states if state in ENDS] == [state for state in states[-1:] if state in ENDS]


def check_own_facet(key: str, facet: Mapping[str, Any]) -> None:
    """Validate a facet of Everloop's own against the schema that is committed; it has no member that is not there."""
    file = facet["_schemaURL"].rpartition("/")[2]
    schema = json.loads((SCHEMAS / file).read_text())
    assert file == f"openlineage.{key}.json"
    OAS31Validator({**schema, "additionalProperties": False}).validate(facet)


def facets_of(event: Sent) -> list[tuple[str, Any]]:
    """All facets of an event, with their keys."""
    groups = [event["run"]["facets"], event["job"]["facets"]]
    for data_set in (*event["inputs"], *event["outputs"]):
        groups += [data_set["facets"], data_set.get("inputFacets", {}), data_set.get("outputFacets", {})]
    return [item for group in groups for item in group.items()]
