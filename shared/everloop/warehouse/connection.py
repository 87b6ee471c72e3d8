"""A client of BigQuery, by Google's standard credentials, or of the emulator that BIGQUERY_EMULATOR_HOST names."""

from __future__ import annotations

import os
from typing import Any

from everloop.extras import require_module
from everloop.warehouse.errors import WarehouseFailed, failures


def split_dataset(name: str) -> tuple[str, str]:
    """Project and data set of `project.dataset`; the project is empty where only a data set is named."""
    project, _, dataset = name.rpartition(".")
    if not dataset or not dataset.replace("_", "").isalnum():
        raise WarehouseFailed(f"{name!r:.100} is no data set of BigQuery; name it PROJECT.DATASET")
    return project, dataset


def connect(project: str) -> Any:
    """A client whose jobs run in this project. Raises ExtraMissing and WarehouseFailed."""
    require_module("BigQuery", "google.cloud.bigquery", "pip install 'everloop[bigquery]'")
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery

    with failures("connecting"):
        if os.environ.get("BIGQUERY_EMULATOR_HOST"):
            return bigquery.Client(project or None, credentials=AnonymousCredentials())  # type: ignore[no-untyped-call]
        return bigquery.Client(project or None)
