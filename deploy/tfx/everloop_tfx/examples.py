"""Rows of a data set as TFX reads them: records of tf.train.Example, typed as the loop's schema says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf

from everloop_tfx.schema import LABEL

EVERY_FIFTH = 5


def write_examples(rows: Iterable[tuple[Mapping[str, Any], Any]], types: Mapping[str, str], folder: Path) -> int:
    """Write features and label of each row below `train/` or, of every fifth, `eval/`; how many were written.

    `types` has the type of each feature, and of the label as `label`. A value that is None is left out.
    """
    files = {split: folder / split / "rows.tfrecord" for split in ("train", "eval")}
    for file in files.values():
        file.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with tf.io.TFRecordWriter(str(files["train"])) as train, tf.io.TFRecordWriter(str(files["eval"])) as held_back:
        for count, (features, label) in enumerate(rows, 1):
            named = {**features, LABEL: label}
            example = {name: _value(types[name], value) for name, value in named.items() if value is not None}
            writer = held_back if count % EVERY_FIFTH == 0 else train
            writer.write(tf.train.Example(features=tf.train.Features(feature=example)).SerializeToString())
    return count


def _value(kind: str, value: Any) -> tf.train.Feature:
    if kind == "string":
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[str(value).encode()]))
    if kind == "number":
        return tf.train.Feature(float_list=tf.train.FloatList(value=[float(value)]))
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(value)]))


def read_examples(patterns: Iterable[str], types: Mapping[str, str]) -> dict[str, list[Any]]:
    """The columns of records that TFX wrote (gzip); a missing value is None."""
    columns: dict[str, list[Any]] = {name: [] for name in types}
    files = [file for pattern in patterns for file in tf.io.gfile.glob(pattern)]
    for record in tf.data.TFRecordDataset(files, compression_type="GZIP").as_numpy_iterator():
        found = tf.train.Example.FromString(record).features.feature
        for name, kind in types.items():
            columns[name].append(_read(found[name], kind) if name in found else None)
    return columns


def _read(feature: tf.train.Feature, kind: str) -> Any:
    if kind == "string":
        return feature.bytes_list.value[0].decode()
    if kind == "number":
        return feature.float_list.value[0]
    value = feature.int64_list.value[0]
    return bool(value) if kind == "boolean" else value
