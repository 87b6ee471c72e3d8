"""The committed schemas are those of the classes."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from everloop_schemas import generate
from everloop_schemas.asyncapi import build_document, to_yaml
from everloop_schemas.catalogue import CLASSES, TOPICS
from everloop_schemas.lineage_facets import FACETS
from everloop_shared.messaging.routes import EVENT_HEADERS


def test_the_committed_schemas_are_fresh() -> None:
    assert generate.find_stale(generate.FOLDER) == []


def test_writing_twice_changes_nothing_and_removes_files_of_former_events(tmp_path: Path) -> None:
    (tmp_path / "gone.v1.json").write_text("{}")

    first, second = generate.write(tmp_path), generate.write(tmp_path)

    assert "gone.v1.json" in first
    assert second == []
    assert len(list(tmp_path.iterdir())) == len(CLASSES) + len(FACETS) + 2


def test_every_event_every_facet_of_lineage_and_the_loop_spec_have_a_schema() -> None:
    facets = {facet.file() for facet in FACETS}

    assert set(generate.build_schemas()) == {f"{name}.json" for name in CLASSES} | facets | {"loop.json"}


def test_a_stale_file_fails_the_check_and_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate.write(tmp_path)
    (tmp_path / "loop.json").write_text("{}")

    status = generate.main(["--check"], tmp_path)

    assert status == 1
    assert "loop.json is stale: run `make schemas`" in capsys.readouterr().out


def test_an_incompatible_change_against_a_revision_fails_the_check(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generate.write(tmp_path)
    older = json.loads((tmp_path / "ingest.event_received.v1.json").read_text())
    older["properties"]["colour"] = {"type": "string"}
    (tmp_path / "ingest.event_received.v1.json").write_text(json.dumps(older))
    _git(tmp_path, "init", "--quiet")
    _git(tmp_path, "add", ".")
    _git(tmp_path, "-c", "user.name=t", "-c", "user.email=t@t", "commit", "--quiet", "-m", "older")
    generate.write(tmp_path)

    status = generate.main(["--check"], tmp_path)

    assert status == 1
    assert "ingest.event_received.v1.json: colour: field removed" in capsys.readouterr().out


def test_without_git_the_check_looks_at_freshness_alone(tmp_path: Path) -> None:
    generate.write(tmp_path)

    assert generate.main(["--check"], tmp_path) == 0


def test_the_yaml_reads_back_as_the_data() -> None:
    data = build_document(CLASSES, TOPICS)

    assert yaml.safe_load(to_yaml(data)) == data


@pytest.mark.parametrize("text", ["yes", "", "a: b", "- x", "#x", "1", "line\nbreak", "null", "ü", "'q'", '"q"', "1e3"])
def test_any_string_survives_the_yaml(text: str) -> None:
    data = {"key": text, "list": [text, {text or "x": 1}], "empty": [], "none": None, "truth": True}

    assert yaml.safe_load(to_yaml(data)) == data


def test_the_asyncapi_document_names_servers_licence_messages_and_keys() -> None:
    data = build_document(CLASSES, TOPICS)

    assert data["servers"]["kafka"]["protocol"] == "kafka"
    assert data["info"]["license"]["name"] == "Apache-2.0"
    assert all(channel["messages"] for channel in data["channels"].values())
    for name, cls in CLASSES.items():
        message = data["components"]["messages"][name]
        [example] = message["bindings"]["kafka"]["key"]["examples"]
        assert ("/" in example) == (cls.topic.keyed_by == "loop/subject")
        assert message["headers"]["properties"]["content-type"]["const"].encode() == dict(EVENT_HEADERS)["content-type"]


def test_every_reference_in_the_asyncapi_document_leads_somewhere() -> None:
    data = build_document(CLASSES, TOPICS)
    files = set(generate.build_schemas())

    for reference in _references(data):
        if reference.startswith("#/"):
            found = data
            for step in reference[2:].split("/"):
                found = found[step]
        else:
            assert reference in files


def _references(data: object) -> list[str]:
    if isinstance(data, dict):
        own = [data["$ref"]] if "$ref" in data else []
        return own + [reference for value in data.values() for reference in _references(value)]
    return []


def _git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", "-C", str(folder), *arguments], check=True)
