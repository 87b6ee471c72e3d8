"""Debezium's PostgreSQL connector in Kafka Connect, as a process of its own."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

from tests.journeys.logical_postgres import LogicalPostgres

from everloop.local import jars, processes
from everloop.local.kafka import java_command
from everloop.local.ports import HOST, free_port

VERSION = "3.6.1.Final"
LOCK = Path(__file__).with_name(f"debezium-{VERSION}.lock")
WORKER = """\
bootstrap.servers={bootstrap}
listeners=HTTP://{host}:{port}
key.converter=org.apache.kafka.connect.json.JsonConverter
value.converter=org.apache.kafka.connect.json.JsonConverter
key.converter.schemas.enable={schemas}
value.converter.schemas.enable={schemas}
offset.storage.file.filename={folder}/offsets
offset.flush.interval.ms=200
plugin.discovery=hybrid_warn
"""
CONNECTOR = """\
name=shop
connector.class=io.debezium.connector.postgresql.PostgresConnector
plugin.name=pgoutput
database.hostname={host}
database.port={port}
database.user=postgres
database.password=unused
database.dbname=postgres
topic.prefix={prefix}
table.include.list=public.orders
slot.name={slot}
publication.autocreate.mode=filtered
poll.interval.ms=50
decimal.handling.mode=double
topic.creation.enable=true
topic.creation.default.replication.factor=1
topic.creation.default.partitions=2
"""


@dataclass
class Connector:
    """Kafka Connect in standalone mode with the one connector; `start` goes on where `kill` ended it."""

    folder: Path
    bootstrap: str
    database: LogicalPostgres
    prefix: str
    schemas: bool = True
    _process: Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """What the process logs."""
        return self.folder / "connect.log"

    def start(self) -> None:
        """Start the process; returns at once."""
        class_path = jars.fetch(lock=LOCK, name=f"debezium-{VERSION}")
        self.folder.mkdir(parents=True, exist_ok=True)
        worker, connector = self.folder / "worker.properties", self.folder / "connector.properties"
        worker.write_text(
            WORKER.format(
                bootstrap=self.bootstrap,
                host=HOST,
                port=free_port(),
                folder=self.folder,
                schemas=str(self.schemas).lower(),
            )
        )
        slot = self.prefix.replace("-", "_").replace(".", "_")
        connector.write_text(CONNECTOR.format(host=HOST, port=self.database.port, prefix=self.prefix, slot=slot))
        java = java_command(class_path)
        command = (*java, "org.apache.kafka.connect.cli.ConnectStandalone", str(worker), str(connector))
        self._process = processes.spawn(command, self.log, dict(os.environ))

    def kill(self) -> None:
        """SIGKILL, as a crash would."""
        if self._process is not None:
            processes.kill_group(self._process.pid)
            self._process.wait(10)
