"""A resource is a loop file, and a loop file is a resource."""

from __future__ import annotations

from pathlib import Path

from tests.operator.builders import resource

from everloop_operator.resource import LoopResource
from everloop_registry.domain.spec_file import read_spec
from everloop_shared.yaml_core import read_yaml

LOOP_FILE = Path(__file__).parents[2] / "deploy" / "loops" / "electricity" / "loop.yaml"


def test_the_file_of_a_resource_is_the_loop_that_the_file_without_name_and_version_says() -> None:
    text = LOOP_FILE.read_text()
    raw = read_yaml(text)
    spec = {key: value for key, value in raw.items() if key not in ("loop", "apiVersion")}

    file = resource(name=raw["loop"], spec=spec).loop_file()

    assert read_spec(file, is_json=True) == read_spec(text.encode(), is_json=False)


def test_a_name_or_a_version_within_the_spec_is_told_with_the_fix() -> None:
    given = resource(spec={"loop": "churn", "apiVersion": "everloop/v1", "task": "binary"})

    assert given.misplaced_keys() == [
        ("loop", "leave it out: the loop's name is metadata.name"),
        ("apiVersion", "leave it out: the resource has an apiVersion of its own"),
    ]


def test_a_resource_is_read_from_what_the_api_server_answers() -> None:
    meta = {
        "namespace": "shop",
        "name": "churn",
        "uid": "1",
        "generation": 3,
        "creationTimestamp": "2024-05-01T12:00:00Z",
        "deletionTimestamp": "2024-05-02T12:00:00Z",
        "annotations": {"everloop.io/on-delete": "keep", "everloop.io/on-drift": "report"},
    }

    read = LoopResource.from_body({"metadata": meta, "spec": {"task": "binary"}})

    assert (read.place, read.generation, read.spec, read.status) == ("shop/churn", 3, {"task": "binary"}, {})
    assert (read.keeps_its_loop, read.restores, read.is_being_deleted) == (True, False, True)
