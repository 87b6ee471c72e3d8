"""The definition that the chart installs is the one of this release."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop_operator import crd
from everloop_schemas.loop import LoopSpec

CRD = Path(__file__).parents[2] / "deploy" / "helm" / "everloop" / "crds" / "loops.everloop.io.yaml"


def test_the_committed_definition_is_current() -> None:
    assert crd.main(["--check", str(CRD)]) == 0, "run `make schemas` and commit the file"


def test_a_stale_definition_is_told_and_a_printed_one_is_current(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "loops.everloop.io.yaml"
    file.write_text(crd.write_yaml().replace("multiclass", "manyclass"))

    stale = crd.main(["--check", str(file)])
    crd.main([])
    file.write_text(capsys.readouterr().out)

    assert (stale, crd.main(["--check", str(file)])) == (1, 0)


def test_the_spec_has_every_part_of_a_loop_file_but_what_the_resource_says_itself() -> None:
    [version] = crd.build_crd()["spec"]["versions"]

    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]

    parts = {field.alias or name for name, field in LoopSpec.model_fields.items()}
    assert set(spec["properties"]) == parts - {"loop", "apiVersion"}
    assert spec["required"] == ["task", "schema"]


def test_every_column_is_a_field_of_the_status() -> None:
    [version] = crd.build_crd()["spec"]["versions"]
    status = version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]

    paths = [c["jsonPath"].split(".")[2:] for c in version["additionalPrinterColumns"] if ".status." in c["jsonPath"]]

    for name, *rest in paths:
        part = status[name.partition("[")[0]]
        assert "[" in name or not rest or rest[0] in part["properties"], name
