"""A past prediction is explained: by which state, by whose share, from which artifact; what contradicts it is told."""

from __future__ import annotations

from datetime import timedelta
from math import nextafter
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.builders.events import prediction_made
from tests.builders.loops import NOW

from everloop.explaining.answer import LAG, explain_by, find_answer
from everloop.explaining.origin import decisions_about
from everloop.explaining.record import NotExplained, Recorded, add_record, choose_record
from everloop.explaining.replay import Replay, replay, same
from everloop.local.discovery import Installation
from everloop.local.personal import KEYS, make_personal_keys
from everloop_learning.split import hash_to_fraction
from everloop_models import Model, build, library_versions, save
from everloop_models.seals import Seals
from everloop_models.store import ArtifactStore
from everloop_schemas.envelope import Fields
from everloop_schemas.loop import LoopSpec
from everloop_schemas.loop_parts import ModelSpec
from everloop_schemas.serving import PredictionMade
from everloop_shared.personal import Vault
from everloop_shared.signing.keys import SigningKey, to_text
from everloop_shared.signing.trust import TrustedKey, TrustFile

CHAMPION, CANDIDATE, VERSION = "a-0@9", "b-0@19", "logistic-regression-0@59"
SPEC = {"loop": "m", "task": "binary", "schema": {"price": {"type": "number"}}, "features": [{"fields": "all"}]}
PRICE: Fields = {"price": 0.3}


def made(prediction_id: str = "p", **data: Any) -> PredictionMade:
    return prediction_made(prediction_id, loop="m", **data)


def state(champion: str = CHAMPION, candidate: str | None = None, share: float = 0.0, **more: Any) -> dict[str, Any]:
    live = candidate and {"version": candidate}
    spec = {"rollout": {"split_by": "prediction"}}
    known = {"champion": {"version": champion}, "candidate": live, "share": share, "spec": spec}
    return {"revision": made().revision, "sequence": 3, "decided": NOW.isoformat(), **known, **more}


def id_with(below: float | None = None, above: float = 0.0) -> str:
    """A prediction id whose hash is in a range."""
    ids = (f"p{i}" for i in range(10_000))
    return next(i for i in ids if above < hash_to_fraction("m", i) < (below or 1.0))


def test_the_hash_of_the_prediction_says_why_the_candidate_or_the_champion_answered() -> None:
    canary = made(id_with(below=0.25), version=CANDIDATE, role="canary", propensity=0.25)
    champion = made(id_with(above=0.25), version=CHAMPION, role="champion", propensity=0.75)
    rollout = state(candidate=CANDIDATE, share=0.25)

    by_share, by_rest = explain_by(rollout, canary), explain_by(rollout, champion)

    assert by_share is not None
    assert by_rest is not None
    assert (by_share.certain, by_share.hash < 0.25, by_rest.certain, by_rest.hash > 0.25) == (True,) * 4
    assert by_share.why.endswith(", below the candidate's share of 25%")
    assert by_rest.why.endswith(", not below the candidate's share of 25%")


def test_a_record_that_no_state_gives_is_not_explained() -> None:
    rollout = state(candidate=CANDIDATE, share=0.25)
    records = {
        "its hash is not below the share": made(id_with(above=0.3), version=CANDIDATE, role="canary", propensity=0.25),
        "another share": made(id_with(below=0.2), version=CANDIDATE, role="canary", propensity=0.5),
        "another version": made(id_with(above=0.3), version="c-0@5", role="champion", propensity=0.75),
        "another revision": made(id_with(below=0.2), version=CANDIDATE, role="canary", propensity=0.25, revision=9),
    }

    explained = {name for name, record in records.items() if find_answer(record, [rollout])}

    assert explained == set()


def test_a_state_on_which_serving_had_not_acted_yet_gives_way_to_the_one_that_answered() -> None:
    record = made(version=CHAMPION, role="champion")
    before = state(sequence=7, decided=(record.time - LAG).isoformat())
    promoted = state(champion=CANDIDATE, sequence=8, decided=(record.time - timedelta(seconds=1)).isoformat())

    answer = find_answer(record, [promoted, before])

    assert answer is not None
    assert (answer.state["sequence"], answer.certain) == (7, True)


def test_what_a_record_does_not_tell_apart_is_not_said_for_certain() -> None:
    rollout = state(candidate=CANDIDATE, share=0.25)
    named = made(id_with(above=0.3), version=CANDIDATE, role="canary")
    fallen_back = made(id_with(above=0.3))
    long_before = state(champion="0", decided=(NOW - 2 * LAG).isoformat())

    by_request = find_answer(named, [rollout])
    by_failure = find_answer(fallen_back, [state(decided=(fallen_back.time - 2 * LAG).isoformat()), long_before])

    assert by_request is not None
    assert by_failure is not None
    assert (by_request.certain, "the request named this version" in by_request.why) == (False, True)
    assert (by_failure.certain, f"{CHAMPION} was not in memory or failed" in by_failure.why) == (False, True)


def test_decisions_about_a_version_are_its_own_and_those_of_its_line() -> None:
    def decision(kind: str, subject: str, **data: Any) -> dict[str, Any]:
        return {"type": f"registry.{kind}.v1", "subject": subject, "time": "t", "sequence": 0, "data": data}

    own = [decision("version_registered", CANDIDATE, model={}), decision("gate_decided", "b-0", line="b-0")]
    others = [decision("model_refreshed", "b-0@39", version="b-0@39"), decision("gate_decided", "c-0", line="c-0")]

    found = list(decisions_about(CANDIDATE, [*own, *others]))

    assert [(one["decision"], one["data"]) for one in found] == [
        ("version_registered", {}),
        ("gate_decided", {"line": "b-0"}),
    ]


def test_the_loop_is_asked_for_where_several_have_the_prediction_and_different_records_are_counted() -> None:
    found: dict[str, Recorded] = {}
    later = made(version=CHAMPION, role="champion")
    for wire in (made().encode(), made().encode(), later.encode(), b"{}", made("q").encode()):
        add_record(found, wire, "p")

    chosen = choose_record(found, "p", None)
    found["n"] = chosen

    assert (chosen.event, chosen.records) == (later, 2)
    assert choose_record(found, "p", "m") is chosen
    with pytest.raises(NotExplained, match="2 loops have a prediction 'p': give --loop, m, n"):
        choose_record(found, "p", None)
    with pytest.raises(NotExplained, match="no prediction 'p' of x; these loops have one: m, n"):
        choose_record(found, "p", "x")


@pytest.fixture
def model() -> Model:
    """A model that has learned a little."""
    random = Random(3)
    model = build(ModelSpec(estimator="river.linear_model.LogisticRegression"), LoopSpec.model_validate(SPEC))
    for _ in range(60):
        price = random.random()
        model.learn({"price": price}, random.random() < price)
    return model


def registered(folder: Path, model: Any, seals: Seals = Seals()) -> dict[str, Any]:  # noqa: B008
    """The version as the registry has it, with its artifact in the store of an installation in the folder."""
    artifact = save(model)
    store = ArtifactStore((folder / "artifacts").as_uri())
    name = store.name("m", VERSION, artifact.sha256)
    about = {"version": VERSION, "uri": store.put(name, artifact.data), "sha256": artifact.sha256}
    manifest = {"format": "river", "libraries": {**library_versions(), "river": "0.1"}}
    return {**about, "size": artifact.size, "seal": seals.make(name, artifact.sha256), "manifest": manifest}


def recorded(model: Model, **changes: Any) -> PredictionMade:
    value, probabilities = model.predict(PRICE)
    data = {"features": PRICE, "prediction": value, "probabilities": probabilities, "version": VERSION, **changes}
    return made(role="champion", **data)


@pytest.mark.promise(4)
async def test_a_version_predicts_the_same_again_in_a_limited_process_and_what_differs_is_told(
    tmp_path: Path, model: Model
) -> None:
    version, installation = registered(tmp_path, model), Installation(tmp_path)
    changed = {name: nextafter(p, 1.0) for name, p in (model.predict(PRICE).probabilities or {}).items()}

    again = await replay(installation, recorded(model), version)
    other = await replay(installation, recorded(model, probabilities=changed), version)

    assert (again.identical, again.probabilities) == (True, model.predict(PRICE).probabilities)
    assert (other.identical, f"river was 0.1, here it is {library_versions()['river']}" in other.detail) == (
        False,
        True,
    )
    assert not same(1, 1.0)


async def test_a_prediction_from_sealed_features_is_opened_with_the_keys_of_the_installation_while_there_are_any(
    tmp_path: Path, model: Model
) -> None:
    version, installation = registered(tmp_path, model), Installation(tmp_path)
    make_personal_keys(tmp_path, {})
    vault = Vault(f"sqlite:///{tmp_path / KEYS}", tmp_path / "personal" / "master.key")
    sealed = await vault.seal_event(recorded(model), frozenset(PRICE))

    again = await replay(installation, sealed, version)
    elsewhere = await replay(Installation(tmp_path / "elsewhere"), sealed, version)
    vault.erase(sealed.loop, sealed.data.entity)
    erased = await replay(installation, sealed, version)

    assert (sealed.data.features, again.identical) == ({}, True)
    assert (elsewhere.identical, "EVERLOOP_PERSONAL_MASTER_KEY" in elsewhere.detail) == (None, True)
    assert (erased.identical, "was erased" in erased.detail) == (None, True)


async def test_an_artifact_is_refused_before_it_is_loaded_or_not_there(
    tmp_path: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, trusted = SigningKey.create(), tmp_path / "trusted.json"
    mine = TrustFile(keys={key.id: TrustedKey(public_key=to_text(key.public), signs=("artifacts",))})
    trusted.write_text(mine.model_dump_json())
    sealed, record = registered(tmp_path, model, Seals(key)), recorded(model)

    async def replayed(version: dict[str, Any]) -> Replay:
        return await replay(Installation(tmp_path), record, version)

    monkeypatch.setenv("EVERLOOP_TRUSTED_KEYS", str(trusted))
    believed, unsealed = await replayed(sealed), await replayed({**sealed, "seal": None})
    [file] = (tmp_path / "artifacts" / "models" / "m").iterdir()
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    flipped = await replayed(sealed)
    file.unlink()
    missing = await replayed(sealed)

    assert (believed.identical, believed.trusted) == (True, True)
    assert (unsealed.identical, "it is not signed: not loaded" in unsealed.detail) == (False, True)
    assert (flipped.identical, "sha256" in flipped.detail) == (False, True)
    assert (missing.identical, "cannot be loaded on this machine" in missing.detail) == (None, True)
