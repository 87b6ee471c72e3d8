"""One real installation for all the journeys, and who is told of the alerts of one of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.journeys.installation import Installation, installed
from tests.monitoring.http_receiver import HttpReceiver, http_receiver

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
def installation(tmp_path_factory: pytest.TempPathFactory, pager: Pager) -> Iterator[Installation]:
    """The installation."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("EVERLOOP_MONITORING_RECEIVERS", str(pager.receivers))
        environment.setenv("EVERLOOP_MONITORING_ALERT_GATHER_S", "0")
        with installed(tmp_path_factory.mktemp("installation")) as started:
            yield started
