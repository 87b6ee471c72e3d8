"""One real installation for all the journeys, who is told of the alerts of one of them, and its lineage backend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.builders.otlp import Collector, collector
from tests.builders.signing import key_file, trusted_keys
from tests.journeys.installation import Installation, installed
from tests.monitoring.http_receiver import HttpReceiver, http_receiver

from everloop_shared.signing.keys import SigningKey

WATCHED_LOOP = "watched"


@dataclass(frozen=True)
class Pager:
    """A webhook that is told of the alerts of `WATCHED_LOOP`, and the file with the secret of its messages."""

    receiver: HttpReceiver
    secret: Path
    receivers: Path


@pytest.fixture(scope="session")
def pager(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pager]:
    """Who is told."""
    folder = tmp_path_factory.mktemp("pager")
    secret, receivers = folder / "secret", folder / "receivers.yml"
    secret.write_text(f"whsec_{'c2VjcmV0IG9m' * 4}\n")
    with http_receiver() as receiver:
        hook = f"{{url: '{receiver.url}/hook', secret: {{file: '{secret}'}}}}"
        receivers.write_text(f"receivers: [{{name: pager, loops: [{WATCHED_LOOP}], webhook: {hook}}}]")
        yield Pager(receiver, secret, receivers)


@pytest.fixture(scope="session")
def collected() -> Iterator[Collector]:
    """What the services record of their traces: those that an application has sampled, and what is rare."""
    with collector() as running:
        yield running


@pytest.fixture(scope="session")
def lineage_backend() -> Iterator[HttpReceiver]:
    """Who is told of runs, versions and rollouts."""
    with http_receiver() as receiver:
        yield receiver


@pytest.fixture(scope="session")
def installation(
    tmp_path_factory: pytest.TempPathFactory, pager: Pager, collected: Collector, lineage_backend: HttpReceiver
) -> Iterator[Installation]:
    """The installation, whose services sign what they decide and believe nobody else."""
    keys = tmp_path_factory.mktemp("keys")
    training, registry = (SigningKey.read(key_file(keys / f"{name}.key")) for name in ("training", "registry"))
    uses = {training: ["artifacts", "snapshots"], registry: ["artifacts", "decisions"]}
    settings = {
        "EVERLOOP_TRAINING_SIGNING_KEY": str(keys / "training.key"),
        "EVERLOOP_REGISTRY_SIGNING_KEY": str(keys / "registry.key"),
        "EVERLOOP_TRUSTED_KEYS": str(trusted_keys(keys / "trusted.json", uses)),
        "EVERLOOP_MONITORING_RECEIVERS": str(pager.receivers),
        "EVERLOOP_MONITORING_ALERT_GATHER_S": "0",
        "EVERLOOP_OPENLINEAGE_URL": lineage_backend.url,
        "EVERLOOP_OTLP_URL": collected.url,
        "EVERLOOP_TRACE_SAMPLING": "0.0001",
    }
    with installed(tmp_path_factory.mktemp("installation"), **settings) as started:
        yield started
