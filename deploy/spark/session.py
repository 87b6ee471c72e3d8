"""The Spark session of the job: in this process and on the loopback interface, unless a cluster is named."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from pyspark.sql import SparkSession

LOCAL = {
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.shuffle.partitions": "8",
}


def start_session(master: str, memory: str, jars: Iterable[Path], given: Mapping[str, str]) -> SparkSession:
    """Start Spark with so much memory for the driver; `given` are settings of Spark that override ours."""
    settings = {"spark.driver.memory": memory, "spark.jars": ",".join(map(str, jars))}
    if master.startswith("local"):
        settings |= LOCAL
    # times as they are on the log, whatever the machine's time zone
    settings |= {"spark.sql.session.timeZone": "UTC", "spark.log.level": "ERROR", **given}
    builder = SparkSession.builder.appName("everloop").master(master)
    for key, value in settings.items():
        if value:
            builder = builder.config(key, value)
    return builder.getOrCreate()
