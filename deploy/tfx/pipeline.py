"""A TFX pipeline for a loop: its data validated with TFDV's schema of the loop file, a forest trained, and submitted.

`python pipeline.py LOOP FOLDER` runs it by TFX's local runner; FOLDER keeps artifacts and their metadata.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tensorflow_data_validation as tfdv
from everloop_tfx.components import RequireFittingData, SubmitModel
from everloop_tfx.examples import write_examples
from everloop_tfx.schema import LABEL, loop_schema
from tfx import v1 as tfx

from everloop import Everloop
from everloop_schemas.loop import LoopSpec


def main() -> None:
    """Export, write the schema, and run the pipeline. A step that fails ends it with status 1."""
    given = _arguments()
    folder = Path(given.folder).resolve()
    with Everloop() as everloop:
        spec = LoopSpec.model_validate(everloop.request("registry", "GET", f"/v1/loops/{given.loop}").json()["spec"])
        data_set = everloop.dataset(given.loop, last=given.last)
    types = {**data_set.features, LABEL: spec.label_type}
    rows = _rows_of(given.csv, types) if given.csv else ((row.features, row.label) for row in data_set)
    examples = folder / "examples" / (Path(given.csv).stem if given.csv else data_set.digest)
    count = write_examples(rows, types, examples)
    schema = folder / "schema" / "schema.pbtxt"
    schema.parent.mkdir(parents=True, exist_ok=True)
    tfdv.write_schema_text(loop_schema(spec, data_set.features), str(schema))
    name = "" if given.csv else data_set.name
    print(f"{count} rows of {name or given.csv}, typed and bounded by revision {data_set.revision}")  # noqa: T201
    tfx.orchestration.LocalDagRunner().run(build(given, folder, examples, schema, types, name))


def build(
    given: argparse.Namespace, folder: Path, examples: Path, schema: Path, types: dict[str, str], data_set: str
) -> Any:
    """The pipeline: examples, statistics, schema, validation, the gate behind it, training, submission."""
    splits = [tfx.proto.Input.Split(name=split, pattern=f"{split}/*") for split in ("train", "eval")]
    read = tfx.components.ImportExampleGen(str(examples), input_config=tfx.proto.Input(splits=splits))
    statistics = tfx.components.StatisticsGen(examples=read.outputs["examples"])
    ours = tfx.components.ImportSchemaGen(schema_file=str(schema))
    validated = tfx.components.ExampleValidator(
        statistics=statistics.outputs["statistics"], schema=ours.outputs["schema"]
    )
    fits = RequireFittingData(anomalies=validated.outputs["anomalies"])
    trained = tfx.components.Trainer(
        run_fn="everloop_tfx.forest.run_fn",
        examples=read.outputs["examples"],
        schema=ours.outputs["schema"],
        train_args=tfx.proto.TrainArgs(),
        eval_args=tfx.proto.EvalArgs(),
        custom_config={"types": types, "trees": given.trees},
    )
    trained.add_upstream_node(fits)
    submitted = SubmitModel(model=trained.outputs["model"], loop=given.loop, name=given.name, data_set=data_set)
    return tfx.dsl.Pipeline(
        pipeline_name=f"everloop-{given.loop}",
        pipeline_root=str(folder / "artifacts"),
        components=[read, statistics, ours, validated, fits, trained, submitted],
        enable_cache=False,
        metadata_connection_config=tfx.orchestration.metadata.sqlite_metadata_connection_config(
            str(folder / "metadata.db")
        ),
    )


def _rows_of(file: str, types: dict[str, str]) -> Iterator[tuple[dict[str, Any], Any]]:
    """The rows of a CSV file with the loop's features and its label, read by their types; empty is missing."""
    read = {"boolean": lambda text: text.lower() in ("true", "1"), "integer": int, "number": float, "string": str}
    with open(file, newline="", encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            values = {name: read[kind](row[name]) if row[name] else None for name, kind in types.items()}
            label = values.pop(LABEL)
            yield values, label


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("loop")
    parser.add_argument("folder")
    parser.add_argument("--last", type=int, default=5000, help="outcomes to train on (default: 5000)")
    parser.add_argument("--csv", help="train on this file instead; columns: the loop's features, and label")
    parser.add_argument("--name", default="tfx-forest", help="the line's name (default: tfx-forest)")
    parser.add_argument("--trees", type=int, default=50)
    return parser.parse_args()


if __name__ == "__main__":
    main()
