"""Serving with trusted keys: it acts on signed states only, and loads what a trusted key has sealed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.builders.signing import trusted_keys

from everloop_models.seals import Seals
from everloop_models.store import name_in
from everloop_schemas.dead_letter import DEAD_LETTERS
from everloop_schemas.registry import LiveVersion, LoopState
from everloop_schemas.serving import VersionState
from everloop_shared.signing.events import sign_event
from everloop_shared.signing.keys import SigningKey
from everloop_shared.signing.trust import TrustStore

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


class Keys:
    """Those of training and of the registry, in a file that serving reads."""

    def __init__(self, serving: RunningServing, folder: Path) -> None:
        self.serving, self.training, self.registry = serving, SigningKey.create(), SigningKey.create()
        self.file = folder / "trusted.json"
        trusted_keys(self.file, {self.training: ["artifacts"], self.registry: ["decisions"]})
        serving.broker.trust = TrustStore(self.file)

    def sealed(self, name: str) -> LiveVersion:
        """A version that training has sealed."""
        version = self.serving.version(name)
        seal = Seals(self.training).make(name_in(version.uri or ""), version.sha256 or "")
        return version.model_copy(update={"seal": seal})

    def state(self, champion: LiveVersion, key: SigningKey | None = None) -> LoopState:
        """A state that the registry has signed, or another key."""
        return sign_event(self.serving.state(champion), key or self.registry)


@pytest.fixture
def keys(serving: RunningServing, tmp_path: Path) -> Keys:
    """Both keys."""
    return Keys(serving, tmp_path)


async def champion(serving: RunningServing) -> Any:
    """The version that answers."""
    return (await serving.predict()).json()["version"]


def reasons(serving: RunningServing) -> list[str | None]:
    """Why versions failed."""
    reports = serving.broker.events(VersionState.topic)
    return [e.data.reason for e in reports if isinstance(e, VersionState) and e.data.state == "failed"]


async def test_forged_states_change_nothing_and_each_is_told(serving: RunningServing, keys: Keys) -> None:
    await serving.publish(keys.state(keys.sealed("a-0@1")))
    await serving.start(trusted_keys=keys.file)
    await serving.until(lambda: ("a-0@1", "ready") in serving.version_states(), 40)

    await serving.publish(
        serving.state(keys.sealed("b-0@2")),
        keys.state(keys.sealed("c-0@3"), keys.training),
        keys.state(keys.sealed("d-0@4"), SigningKey.create()),
    )
    await serving.until(lambda: len(serving.broker.events(DEAD_LETTERS["serving"].topic)) == 3)
    answered = await champion(serving)
    await serving.publish(keys.state(keys.sealed("e-0@5")))

    await serving.until(lambda: ("e-0@5", "ready") in serving.version_states(), 40)
    assert answered == "a-0@1"
    assert {e.data.error for e in serving.broker.events(DEAD_LETTERS["serving"].topic)} == {"SignatureRefused"}
    assert {version for version, _ in serving.version_states()} == {"a-0@1", "e-0@5"}


async def test_a_version_that_nobody_vouches_for_is_not_loaded_and_the_champion_answers_on(
    serving: RunningServing, keys: Keys
) -> None:
    await serving.publish(keys.state(keys.sealed("a-0@1")))
    await serving.start(trusted_keys=keys.file)
    await serving.until(lambda: ("a-0@1", "ready") in serving.version_states(), 40)

    await serving.publish(keys.state(serving.version("b-0@2")))

    await serving.until(lambda: ("b-0@2", "failed") in serving.version_states(), 40)
    assert await champion(serving) == "a-0@1"
    assert reasons(serving) == ["it is not signed: not loaded"]


async def test_a_byte_that_was_flipped_while_serving_was_down_is_refused_at_the_start_and_said(
    serving: RunningServing, keys: Keys
) -> None:
    version = keys.sealed("a-0@1")
    await serving.publish(keys.state(version))
    await serving.start(trusted_keys=keys.file)
    await serving.until(lambda: ("a-0@1", "ready") in serving.version_states(), 40)
    await serving.stop()
    artifact = serving.folder / "artifacts" / name_in(version.uri or "")
    whole = artifact.read_bytes()
    artifact.write_bytes(whole[:-40] + bytes([whole[-40] ^ 1]) + whole[-39:])

    await serving.start(trusted_keys=keys.file, ready=False)

    await serving.until(lambda: ("a-0@1", "failed") in serving.version_states(), 40)
    report = [e for e in serving.broker.events(VersionState.topic) if isinstance(e, VersionState)][-1]
    assert "sha256 is" in (report.data.reason or "")
    assert report.data.serving == "0" == await champion(serving)


async def test_states_that_were_changed_on_disk_are_not_used_at_the_start(serving: RunningServing, keys: Keys) -> None:
    await serving.publish(keys.state(keys.sealed("a-0@1")))
    await serving.start(trusted_keys=keys.file)
    await serving.until(lambda: ("a-0@1", "ready") in serving.version_states(), 40)
    await serving.stop()
    [file] = serving.folder.rglob("loops.jsonl")
    file.write_bytes(file.read_bytes().replace(b'"stage":"idle"', b'"stage":"shadow"'))
    before = len(serving.version_states())

    await serving.start(trusted_keys=keys.file)

    await serving.until(lambda: len(serving.version_states()) > before, 40)
    assert await champion(serving) == "a-0@1"
    assert b'"stage":"idle"' in keys.state(keys.sealed("z-0@9")).encode()
