"""The OpenAPI document of every service is valid, and complete enough to generate a client from it."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import pytest
from openapi_spec_validator import validate
from tests.everloop_shared.openapi_documents import FOLDER, WRITTEN, build_documents, to_json

from everloop_schemas.topology import SERVICES

pytestmark = pytest.mark.app
NAMES = [*SERVICES, "topics"]
Operation = tuple[str, str, dict[str, Any]]


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The document of each service of a local installation."""
    return build_documents(tmp_path_factory.mktemp("installation"))


def operations(document: dict[str, Any]) -> Iterator[Operation]:
    """Each address and method with its description."""
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


@pytest.mark.parametrize("name", NAMES)
def test_the_document_is_valid_and_names_the_version(documents: dict[str, dict[str, Any]], name: str) -> None:
    document = documents[name]

    validate(document)
    assert document["info"]["version"] == version("everloop")
    assert document["info"]["license"]["identifier"] == "Apache-2.0"
    assert not {"HTTPValidationError", "ValidationError"} & set(document["components"]["schemas"])


@pytest.mark.parametrize("name", WRITTEN)
def test_the_committed_document_is_current(documents: dict[str, dict[str, Any]], name: str) -> None:
    committed = (FOLDER / f"{name}.json").read_text()

    assert committed == to_json(documents[name]), "run make schemas"


@pytest.mark.parametrize("name", NAMES)
def test_operation_ids_are_short_and_unique(documents: dict[str, dict[str, Any]], name: str) -> None:
    ids = [operation["operationId"] for _, _, operation in operations(documents[name])]

    assert len(set(ids)) == len(ids)
    assert all(len(each) <= 25 and each.isidentifier() for each in ids), ids


@pytest.mark.parametrize("name", NAMES)
def test_every_error_has_the_schema_of_a_problem_or_of_the_protocol(
    documents: dict[str, dict[str, Any]], name: str
) -> None:
    for path, method, operation in operations(documents[name]):
        for status, response in operation["responses"].items():
            if int(status) < 400:
                continue
            [(kind, media)] = response["content"].items()
            schema = media["schema"]["$ref"].rpartition("/")[2]
            if path == "/v2" or path.startswith("/v2/"):
                assert (kind, schema) == ("application/json", "InferenceError"), f"{method} {path} {status}"
            else:
                assert (kind, schema) == ("application/problem+json", "Problem"), f"{method} {path} {status}"


OPEN = ("LoopFile", "ModelSpec", "CloudEventEntry", "InferenceRequest", "InputTensor", "RequestedOutput")
"""A loop's file, which the spec's own schema closes; parameters of a model by name; what its standard leaves open."""


@pytest.mark.parametrize("name", NAMES)
def test_a_body_has_no_other_members_than_the_document_says_and_none_that_names_its_sender(
    documents: dict[str, dict[str, Any]], name: str
) -> None:
    schemas = documents[name]["components"]["schemas"]
    sent: dict[str, Any] = {}

    def collect(part: Any) -> None:
        for value in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
            collect(value)
        reference = part.get("$ref", "").rpartition("/")[2] if isinstance(part, dict) else ""
        if reference and reference not in sent:
            sent[reference] = schemas[reference]
            collect(schemas[reference])

    for _, _, operation in operations(documents[name]):
        collect(operation.get("requestBody", {}))

    closed = {n: s for n, s in sent.items() if s.get("type") == "object" and n not in OPEN}
    assert [n for n, s in closed.items() if s.get("properties") and s.get("additionalProperties") is not False] == []
    assert [n for n, s in sent.items() if {"actor", "roles", "subject_kind"} & set(s.get("properties", ()))] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_success_and_every_body_has_a_schema(documents: dict[str, dict[str, Any]], name: str) -> None:
    for path, method, operation in operations(documents[name]):
        where = f"{method} {path}"
        successes = [r for status, r in operation["responses"].items() if int(status) < 400 and status != "204"]
        assert successes, where
        for response in successes:
            assert response["content"], where
            assert all(media["schema"] for media in response["content"].values()), where
        if method in ("post", "put"):
            assert all(media["schema"] for media in operation["requestBody"]["content"].values()), where


def test_the_loop_file_is_described_by_the_spec_s_own_schema(documents: dict[str, dict[str, Any]]) -> None:
    registry = documents["registry"]

    content = registry["paths"]["/v1/loops/{loop}"]["put"]["requestBody"]["content"]

    assert set(content) == {"application/json", "application/yaml"}
    assert content["application/json"]["schema"]["anyOf"][0] == {"$ref": "#/components/schemas/LoopSpec"}
    assert {"loop", "task", "schema", "features", "rollout"} <= set(
        registry["components"]["schemas"]["LoopSpec"]["properties"]
    )


def test_lists_and_cloud_events_are_bodies_of_ingest(documents: dict[str, dict[str, Any]]) -> None:
    for endpoint, entry in (("events", "Observation"), ("labels", "Label"), ("feedback", "Feedback")):
        body = documents["ingest"]["paths"][f"/v1/loops/{{loop}}/{endpoint}"]["post"]["requestBody"]

        single, event, batch = body["content"]["application/json"]["schema"]["anyOf"]
        assert single == {"$ref": f"#/components/schemas/{entry}"}
        assert batch["items"]["anyOf"] == [single, event]
        assert "application/x-ndjson" in body["content"]
        assert "application/cloudevents+json" in body["description"]
