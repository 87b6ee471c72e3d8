"""Seals of artifacts: who vouches for which bytes under which name."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from tests.builders.loops import NOW
from tests.builders.signing import trusted_keys, trusting

from everloop_models.errors import ArtifactUntrusted
from everloop_models.seals import UNSEALED, Seals, statement
from everloop_models.store import ArtifactStore
from everloop_shared.signing.keys import SigningKey

SHA256, OTHER = "a1" * 32, "b2" * 32
NAME = ArtifactStore.name("market", "a-0@200", SHA256)


@dataclass(frozen=True)
class Announced:
    """What a record says of an artifact."""

    sha256: str | None
    seal: str | None


@pytest.fixture
def key() -> SigningKey:
    """A key."""
    return SigningKey.create()


def test_a_sealed_artifact_is_believed_under_its_own_name_only(tmp_path: Path, key: SigningKey) -> None:
    trust = trusting(tmp_path / "trusted.json", {key: ["artifacts"]})
    seal, seals = Seals(key, None, lambda: NOW).make(NAME, SHA256), Seals(None, trust)

    seals.check(NAME, Announced(SHA256, seal))

    for name, sha256 in (
        (NAME.replace("a-0@200", "b-0@400"), SHA256),
        (NAME.replace("market", "churn"), SHA256),
        (NAME, OTHER),
    ):
        with pytest.raises(ArtifactUntrusted, match="not that of key"):
            seals.check(name, Announced(sha256, seal))


def test_a_seal_that_is_missing_odd_or_of_the_wrong_key_says_why(tmp_path: Path, key: SigningKey) -> None:
    other = SigningKey.create()
    seals = Seals(None, trusting(tmp_path / "trusted.json", {key: ["artifacts"], other: ["decisions"]}))
    good = Seals(key, None, lambda: NOW).make(NAME, SHA256) or ""
    later = f"{int(NOW.timestamp()) + 1}.{good.partition('.')[2]}"

    for seal, says in (
        (None, "not signed"),
        ("", "cannot be read"),
        ("9" * 40 + good[10:], "cannot be read"),
        (good[:-3], "not that of key|cannot be read"),
        (later, "not that of key"),
        (Seals(other).make(NAME, SHA256), "may not sign artifacts"),
        (Seals(SigningKey.create()).make(NAME, SHA256), "not among the trusted"),
    ):
        with pytest.raises(ArtifactUntrusted, match=says):
            seals.check(NAME, Announced(SHA256, seal))


def test_a_seal_of_a_revoked_key_counts_if_it_was_made_before(tmp_path: Path, key: SigningKey) -> None:
    day = timedelta(days=1)
    before = Seals(key, None, lambda: NOW - day).make(NAME, SHA256)
    after = Seals(key, None, lambda: NOW + day).make(NAME, SHA256)
    seals = Seals(None, trusting(tmp_path / "trusted.json", key, revoked=NOW.isoformat()))

    seals.check(NAME, Announced(SHA256, before))

    with pytest.raises(ArtifactUntrusted, match="revoked"):
        seals.check(NAME, Announced(SHA256, after))


def test_adopted_artifacts_need_no_seal_and_a_change_of_the_file_counts_at_once(
    tmp_path: Path, key: SigningKey
) -> None:
    file = tmp_path / "trusted.json"
    seals = Seals(None, trusting(file, key, adopted={"artifacts": [SHA256]}))

    seals.check(NAME, Announced(SHA256, None))
    trusted_keys(file, key)

    with pytest.raises(ArtifactUntrusted):
        seals.check(NAME, Announced(SHA256, None))


def test_without_keys_nothing_is_sealed_and_everything_is_loaded() -> None:
    UNSEALED.check(NAME, Announced(SHA256, None))

    assert UNSEALED.make(NAME, SHA256) is None


def test_the_statement_is_that_of_openssf_model_signing() -> None:
    made = json.loads(statement(NAME, SHA256, NOW))

    assert made["_type"] == "https://in-toto.io/Statement/v1"
    assert made["predicateType"] == "https://model_signing/signature/v1.0"
    assert made["predicate"]["resources"] == [
        {"name": NAME.rpartition("/")[2], "algorithm": "sha256", "digest": SHA256}
    ]
