"""A program for an environment of its own: Evidently's drift preset by its defaults, window by window.

Reads JSON objects from standard input, one a line: `rows`, `reference` (rows), `window` and `every` (rows between two
looks). Writes the drifts of each as JSON in a line: at which row, which column first, and whether the preset calls the
whole data set drifted.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def drifted_columns(report: dict[str, Any]) -> list[tuple[float, str]]:
    """The columns that the report calls drifted, the largest excess over their threshold first."""
    found = []
    for metric in report["metrics"]:
        config = metric.get("config", {})
        column, threshold, method = config.get("column"), config.get("threshold"), str(config.get("method", ""))
        value = metric["value"]
        if column is None or not isinstance(value, int | float) or threshold is None:
            continue
        by_p = "p_value" in method
        if value < threshold if by_p else value >= threshold:
            found.append((threshold / max(value, 1e-300) if by_p else value / threshold, column))
    return sorted(found, reverse=True)


def find_drifts(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Look at the last `window` rows every `every` rows after the reference, which stays the same."""
    import pandas as pd  # type: ignore[import-untyped]
    from evidently import Report  # type: ignore[import-not-found]
    from evidently.presets import DataDriftPreset  # type: ignore[import-not-found]

    frame = pd.DataFrame(task["rows"], dtype=float)
    reference, told = frame[: task["reference"]], list[dict[str, Any]]()
    for end in range(task["reference"] + task["window"], len(frame) + 1, task["every"]):
        current = frame[end - task["window"] : end]
        try:
            report = Report([DataDriftPreset()]).run(current, reference).dict()
        except ValueError as e:  # a column without any value is an error of its tests
            told.append({"row": end - 1, "feature": "", "whole": False, "error": str(e)[:200]})
            continue
        columns = drifted_columns(report)
        if columns:
            told.append({"row": end - 1, "feature": columns[0][1], "whole": 2 * len(columns) >= frame.shape[1]})
    return told


def main() -> None:
    """Answer each line until there is none."""
    for line in sys.stdin:
        json.dump(find_drifts(json.loads(line)), sys.stdout)
        sys.stdout.write("\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
