"""The encoding of features, computed by Spark over all rows, and applied to them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from encoding import MAX_TEXTS, Encoding
from pyspark.ml.feature import VectorAssembler
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

LARGEST = float(np.finfo(np.float32).max)


class EncodedRows:
    """Rows as vectors. Columns are named by number, as a feature may have any name.

    `plain` has `offset`, `label`, a column of 32-bit floats for each number and one for each text, as an ONNX model is
    fed with them; a missing text is the empty one there.
    """

    def __init__(self, rows: DataFrame, kinds: Mapping[str, str]) -> None:
        numbers = [name for name, kind in kinds.items() if kind != "string"]
        texts = [name for name, kind in kinds.items() if kind == "string"]
        self._numbers = [f"n{i}" for i in range(len(numbers))]
        self._texts = [f"t{i}" for i in range(len(texts))]
        self.plain = rows.select(
            "offset",
            "label",
            *(_number(F.col("features")[name]).alias(c) for name, c in zip(numbers, self._numbers, strict=True)),
            *(
                F.coalesce(F.col("features")[name], F.lit("")).alias(c)
                for name, c in zip(texts, self._texts, strict=True)
            ),
        )
        means = self._averages([F.col(c).cast("double") for c in self._numbers])
        filled = [_filled(c, mean) - _float(mean) for c, mean in zip(self._numbers, means, strict=True)]
        scales = np.sqrt(self._averages([F.pow(each.cast("double"), F.lit(2)) for each in filled]))
        known = {name: self._most_frequent(c) for name, c in zip(texts, self._texts, strict=True)}
        self.encoding = Encoding(numbers, known, means, np.where(scales > 0, scales, 1).astype(np.float32))

    def vectors(self) -> DataFrame:
        """The plain columns, and `x`: what `Encoding.wrap` computes, to the last bit."""
        encoded = self.encoding
        columns = {
            # Spark divides floats as doubles; rounded to 32 bits that is the quotient of floats
            c: ((_filled(c, mean) - _float(mean)) / _float(scale)).cast("float").cast("double")
            for c, mean, scale in zip(self._numbers, encoded.means, encoded.scales, strict=True)
        }
        for c, known in zip(self._texts, encoded.texts.values(), strict=True):
            columns |= {f"{c}_{i}": (F.col(c) == text).cast("double") for i, text in enumerate(known)}
        named = {f"x_{c}": column for c, column in columns.items()}
        assembled = VectorAssembler(inputCols=list(named), outputCol="x").transform(self.plain.withColumns(named))
        return assembled.drop(*named)

    def feeds(self, rows: DataFrame) -> dict[str, np.ndarray]:
        """What an ONNX model is fed for rows of `plain`; they are brought to this process."""
        collected = rows.select(*self._numbers, *self._texts).collect()
        feeds = {}
        for name, c in zip(self.encoding.numbers, self._numbers, strict=True):
            values = [np.nan if row[c] is None else row[c] for row in collected]
            feeds[name] = np.array(values, np.float32).reshape(-1, 1)
        for name, c in zip(self.encoding.texts, self._texts, strict=True):
            feeds[name] = np.array([row[c] for row in collected], object).reshape(-1, 1)
        return feeds

    def _averages(self, columns: list[Column]) -> np.ndarray:
        """The average of each, 0 where there is none."""
        if not columns:
            return np.zeros(0, np.float32)
        [row] = self.plain.agg(*(F.avg(column).alias(str(i)) for i, column in enumerate(columns))).collect()
        return np.array([value or 0.0 for value in row], np.float32)

    def _most_frequent(self, column: str) -> list[str]:
        counted = self.plain.where(F.col(column) != "").groupBy(column).count()
        return [row[0] for row in counted.orderBy(F.desc("count"), column).limit(MAX_TEXTS).collect()] or [" "]


def _number(column: Column) -> Column:
    value = column.cast("double")
    return F.when(value.isNotNull(), F.least(F.greatest(value, F.lit(-LARGEST)), F.lit(LARGEST))).cast("float")


def _filled(column: str, mean: float) -> Column:
    return F.coalesce(F.col(column), _float(mean))


def _float(value: float) -> Column:
    return F.lit(float(value)).cast("float")
