"""The registry with a key: what it decides is signed, and what is not signed is not acted on."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.builders.events import challenge_updated, evaluation_updated, run_requested
from tests.builders.running import until
from tests.builders.signing import trusted_keys
from tests.databases import database_url
from tests.registry.registry_harness import (
    LOST,
    WON,
    apply_file,
    decided_types,
    dump,
    publish,
    registry,
    registry_on,
    store_model,
)

from everloop_models.seals import Seals
from everloop_models.store import name_in
from everloop_registry.app import build
from everloop_registry.settings import RegistrySettings
from everloop_schemas.registry import Decided, LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.signing.events import sign_event
from everloop_shared.signing.keys import SigningKey
from everloop_shared.signing.trust import TrustStore

pytestmark = [pytest.mark.app, pytest.mark.usefixtures("databases")]


@dataclass
class Signed:
    """The keys of an installation."""

    folder: Path

    def __post_init__(self) -> None:
        self.training, self.registry = SigningKey.create(), SigningKey.create()
        self.key_file, self.trusted = self.folder / "registry.key", self.folder / "trusted.json"
        self.registry.write(self.key_file)
        self.trust_all()

    def trust_all(self, adopted: dict[str, Any] | None = None) -> None:
        """Trust both keys."""
        uses = {self.training: ["artifacts"], self.registry: ["artifacts", "decisions"]}
        trusted_keys(self.trusted, uses, adopted)

    def broker(self) -> MemoryBroker:
        """A broker whose engines believe these keys."""
        return MemoryBroker(trust=TrustStore(self.trusted))

    @asynccontextmanager
    async def running(self, broker: MemoryBroker, home: str = "home") -> AsyncIterator[httpx.AsyncClient]:
        """The registry, with its key."""
        folder = self.folder / home
        settings = RegistrySettings(
            data=folder,
            port=0,
            database_url=database_url(folder),
            settle_s=0.0,
            artifacts=(self.folder / "artifacts").as_uri(),
            signing_key=self.key_file,
            trusted_keys=self.trusted,
        )
        async with registry_on(broker.engine, settings) as client:
            yield client

    def version(self, name: str, offset: int, key: SigningKey | None = None, **changes: Any) -> ModelTrained:
        """A version that is sealed and signed by a key, or by none; `changes` are of what was signed."""
        event = store_model(name, offset, self.folder / "artifacts", "gate")
        if key is None:
            return event.copy_with(data=event.data.model_copy(update=changes))
        seal = Seals(key).make(name_in(event.data.uri), event.data.sha256)
        return sign_event(event.copy_with(data=event.data.model_copy(update={"seal": seal, **changes})), key)


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    """Keys of training and of the registry."""
    return Signed(tmp_path)


def refused(broker: MemoryBroker) -> list[tuple[str, str]]:
    """Error and reason of each dead letter of the registry."""
    found = [r for p in range(broker.partitions) for r in broker.log("registry.dead_letter.v1", p)]
    return [(d["error"], d["reason"]) for d in (json.loads(r.value or b"")["data"] for r in found)]


async def winner(broker: MemoryBroker, client: httpx.AsyncClient) -> None:
    """The loop, up to where a line has won and a version of it is waited for."""
    await apply_file(client)
    await publish(broker, run_requested("a-0"), challenge_updated(0, {"0": LOST, "a-0": WON}))
    await until(lambda: decided_types(broker)[-1:] == ["rollout_changed"])


async def test_decisions_and_states_are_signed_chained_and_rebuilt(signed: Signed) -> None:
    broker = signed.broker()
    async with signed.running(broker) as client:
        await winner(broker, client)
        await publish(broker, signed.version("a-0", 200, signed.training), evaluation_updated(0, {"0": [0.5] * 200}))
        await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
        champion = (await client.get("/market")).json()["champion"]
    async with signed.running(broker, "second"):
        pass

    events = [e for topic in (Decided.topic, LoopState.topic) for e in broker.events(topic)]
    assert {(e.signature or "").partition(".")[0] for e in events if isinstance(e, Decided | LoopState)} == {
        signed.registry.id
    }
    assert champion["version"] == "a-0@200"
    assert champion["seal"]
    assert await dump(signed.folder / "second") == await dump(signed.folder / "home")
    assert refused(broker) == []


async def test_a_forged_version_is_refused_and_the_champion_stays(signed: Signed) -> None:
    broker, stranger = signed.broker(), SigningKey.create()
    async with signed.running(broker) as client:
        await winner(broker, client)
        unsigned, foreign = signed.version("a-0", 200), signed.version("a-0", 201, stranger)
        misused = signed.version("a-0", 202, signed.training, seal=None)
        await publish(broker, unsigned, foreign, misused)
        await until(lambda: any(e.subject == misused.subject for e in broker.events(Decided.topic)))
        loop = (await client.get("/market")).json()
        history = (await client.get("/market/history")).json()["decisions"]

    assert [error for error, _ in refused(broker)] == ["SignatureRefused"] * 2
    assert ["not signed" in refused(broker)[0][1], "not among the trusted" in refused(broker)[1][1]] == [True, True]
    assert loop["champion"]["version"] == "0"
    judged, _ = [decision for decision in history if decision["subject"] == misused.subject]
    assert judged["data"]["reason"] == "contract: it is not signed: not loaded"


async def test_a_version_of_a_revoked_key_is_refused_without_a_restart(signed: Signed) -> None:
    broker = signed.broker()
    async with signed.running(broker) as client:
        await winner(broker, client)
        version = signed.version("a-0", 200, signed.training)
        trusted_keys(signed.trusted, {signed.registry: ["artifacts", "decisions"]})
        await publish(broker, version)
        await until(lambda: bool(refused(broker)))
        loop = (await client.get("/market")).json()

    assert loop["champion"]["version"] == "0"


async def test_a_forged_decision_is_left_out_of_a_rebuild(signed: Signed) -> None:
    broker = signed.broker()
    async with signed.running(broker) as client:
        await winner(broker, client)
    last = max((e for e in broker.events(Decided.topic) if isinstance(e, Decided)), key=lambda e: e.sequence)
    await publish(broker, last.copy_with(sequence=last.sequence + 1, prevhash="0" * 64))

    async with signed.running(broker, "second"):
        pass

    assert await dump(signed.folder / "second") == await dump(signed.folder / "home")


async def test_an_installation_that_begins_to_sign_goes_on_with_what_it_has(signed: Signed) -> None:
    broker = signed.broker()
    broker.trust = None
    async with registry(broker, signed.folder / "home") as client:
        await winner(broker, client)
    unsigned = len(broker.events(LoopState.topic))
    signed.trust_all({"decisions": {"market": len(decided_types(broker))}})
    broker.trust = TrustStore(signed.trusted)

    async with signed.running(broker) as client:
        await until(lambda: len(broker.events(LoopState.topic)) > unsigned)
        await publish(broker, signed.version("a-0", 200, signed.training), evaluation_updated(0, {"0": [0.5] * 200}))
        await until(lambda: decided_types(broker)[-1:] == ["model_promoted"])
    async with signed.running(broker, "second"):
        pass

    state = broker.events(LoopState.topic)[unsigned]
    assert isinstance(state, LoopState)
    assert (state.signature or "").startswith(signed.registry.id)
    assert await dump(signed.folder / "second") == await dump(signed.folder / "home")
    assert refused(broker) == []


def test_a_registry_that_nobody_would_believe_does_not_start(signed: Signed) -> None:
    trusted_keys(signed.trusted, {signed.registry: ["artifacts"]})
    settings = RegistrySettings(data=signed.folder, signing_key=signed.key_file, trusted_keys=signed.trusted)

    with pytest.raises(Misconfigured, match="may not sign decisions"):
        build(settings, signed.broker().engine)
