"""Personal values are sealed, opened, and forgotten."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sqlite3
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.builders.events import event
from tests.builders.loops import LOOP, NOW

from everloop_schemas.feature import EntityState, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import Explanation, PredictionMade
from everloop_shared.errors import InputRejected, Misconfigured, Unavailable
from everloop_shared.personal import PersonalKeysMissing, PersonalRecordFailed, Vault, hiding_values
from everloop_shared.personal.master import create_master_key, read_master_keys

NAMES = frozenset({"income", "city"})
FIELDS = {"price": 1.5, "income": 987654.25, "city": "Ouagadougou"}


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return vault_of(tmp_path)


def vault_of(folder: Path) -> Vault:
    create_master_key(folder / "keys" / "master.key")
    return Vault(f"sqlite:///{folder}/keys/keys.db", folder / "keys" / "master.key")


def observation(**fields: Any) -> EventReceived:
    data = {"entity": "anna", "fields": fields or FIELDS, "received": NOW}
    return event(EventReceived, "order-1", data, subject="anna")


async def test_an_event_says_nothing_of_its_personal_fields_until_it_is_opened(vault: Vault, tmp_path: Path) -> None:
    sealed = await vault.seal_event(observation(), NAMES)
    read = EventReceived.decode(sealed.encode())
    opened = await vault_of(tmp_path).open_event(read)

    assert (read.data.fields, opened and opened.data.fields) == ({"price": 1.5}, FIELDS)
    assert all(str(FIELDS[name]).encode() not in sealed.encode() for name in NAMES)
    assert await vault.seal_event(observation(), frozenset()) == observation()
    assert await vault.open_event(observation()) == observation()


async def test_a_token_travels_to_the_next_record_and_what_was_contributed_is_sealed_with_it(vault: Vault) -> None:
    told = Explanation(method="linear", base=0.0, contributions={"price": 0.5, "income": 3.25})
    made = prediction(await vault.seal("market", "anna", {"features": {"income": 2.5}}))
    data = msgspec.structs.replace(made.data, features={"price": 1.0, "income": 2.5})

    without_explanation = await vault.seal_event(made.copy_with(data=data), NAMES)
    explained = await vault.seal_event(made.copy_with(data=msgspec.structs.replace(data, explanation=told)), NAMES)
    opened = await vault.open_event(explained)

    assert without_explanation == made
    assert explained.data.personal != made.data.personal
    assert explained.data.explanation == Explanation(method="linear", base=0.0, contributions={"price": 0.5})
    assert opened is not None
    assert opened.data.explanation == told
    assert opened.data.features == {"price": 1.0, "income": 2.5}


async def test_opened_values_are_in_their_places_again(vault: Vault) -> None:
    names = frozenset({"b", "d", "e"})
    for order in ("abcdef", "bdeacf", "acfbde", "edcba", "bde"):
        fields = {name: float(n) for n, name in enumerate(order)}
        opened = await vault.open_event(await vault.seal_event(observation(**fields), names))

        assert opened is not None
        assert list(opened.data.fields.items()) == list(fields.items())


async def test_what_is_prepared_needs_no_store_for_a_while(vault: Vault, tmp_path: Path) -> None:
    entities = [f"entity-{n}" for n in range(1_200)]
    before = vault.seal_now("market", "entity-7", {"fields": {"income": 1}})
    other = vault_of(tmp_path)

    await other.prepare("market", [*entities, "entity-7"])
    (tmp_path / "keys" / "keys.db").unlink()
    tokens = [other.seal_now("market", entity, {}) for entity in entities]

    assert other.unseal_now("market", "entity-7", before) == {"fields": {"income": 1}}
    assert len({token.split(".")[0] for token in tokens}) == 1_200


async def test_many_entities_have_one_key_each_whoever_prepares_them_first(tmp_path: Path) -> None:
    vaults = [vault_of(tmp_path) for _ in range(3)]
    entities = [f"entity-{n}" for n in range(40)]

    await asyncio.gather(*(v.prepare("market", entities[n:] + entities[:n]) for n, v in enumerate(vaults)))

    assert len({v.seal_now("market", e, {}).split(".")[0] for v in vaults for e in entities}) == 40


async def test_a_blind_digest_is_the_same_in_every_process_and_another_of_every_key(
    vault: Vault, tmp_path: Path
) -> None:
    same = [v.blind_now("market", "anna", "00ff") for v in (vault, vault_of(tmp_path))]
    other = vault.blind_now("market", "bert", "00ff")
    vault.erase("market", "anna")

    assert same[0] == same[1] != other
    assert len(same[0]) == 16
    assert vault.blind_now("market", "anna", "00ff") != same[0]


async def test_records_wait_where_the_master_key_or_the_store_is_damaged(vault: Vault, tmp_path: Path) -> None:
    await vault.seal("market", "anna", {})
    (tmp_path / "keys" / "master.key").chmod(0o644)
    with pytest.raises(PersonalKeysMissing, match="chmod 600"):
        await Vault(f"sqlite:///{tmp_path}/keys/keys.db", tmp_path / "keys" / "master.key").seal("market", "anna", {})

    (tmp_path / "keys" / "keys.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(Unavailable):
        await vault.seal("market", "bert", {})


async def test_states_and_comments_are_sealed_as_a_whole(vault: Vault) -> None:
    held = {"entity": "anna", "applied": 3, "state": {"ring": {"income": [987654.25]}}}
    state = event(EntityState, "state-1", held, subject="anna")
    comment = {"prediction_id": "order-1", "kind": "feedback", "correct": True, "comment": "Anna", "received": NOW}
    label = event(LabelReceived, "label-1", comment, subject="order-1")

    sealed = [await vault.seal_event(state, NAMES), await vault.seal_event(label, NAMES)]
    opened = [await vault.open_event(one) for one in sealed]

    assert (sealed[0].data.state, sealed[1].data.comment) == ({}, None)
    assert [one and (getattr(one.data, "state", None) or one.data.comment) for one in opened] == [held["state"], "Anna"]


async def test_an_erased_entity_opens_no_more_and_a_later_one_has_another_key(vault: Vault, tmp_path: Path) -> None:
    other = vault_of(tmp_path)
    before = await vault.seal_event(observation(), NAMES)
    kept = await vault.seal("market", "bert", {"fields": {"income": 1}})

    erased = [vault.erase(LOOP, "anna"), vault.erase(LOOP, "anna")]
    after = await vault.seal_event(observation(), NAMES)

    assert erased == [True, False]
    assert await other.open_event(before) is None
    assert await vault.open_event(before) is None
    assert await other.open_event(after) is not None
    assert await other.unseal("market", "bert", kept) == {"fields": {"income": 1}}


async def test_a_destroyed_key_is_in_no_byte_of_the_store(vault: Vault, tmp_path: Path) -> None:
    for name in range(50):
        await vault.seal("market", f"entity-{name}", {})
    with sqlite3.connect(tmp_path / "keys" / "keys.db") as store:
        [[wrapped]] = store.execute("SELECT wrapped FROM personal_keys WHERE entity = 'entity-7'").fetchall()
    store.close()

    vault.erase("market", "entity-7")
    left = b"".join(file.read_bytes() for file in (tmp_path / "keys").iterdir())

    assert wrapped not in left
    assert vault.erase_loop("market") == 49


@pytest.mark.parametrize("where", [("other", "anna"), ("market", "bert")])
async def test_a_token_of_another_loop_or_entity_or_a_changed_one_is_refused(
    vault: Vault, where: tuple[str, str]
) -> None:
    token = await vault.seal("market", "anna", {"fields": {"income": 1}})
    own = await vault.seal(*where, {})
    swapped = own[:16] + token[16:]
    changed = token[:-3] + ("AAA" if token[-3:] != "AAA" else "BBB")

    with pytest.raises(InputRejected):
        await vault.unseal(*where, swapped)
    with pytest.raises(InputRejected):
        await vault.unseal("market", "anna", changed)
    with pytest.raises(InputRejected):
        await vault.unseal("market", "anna", token[:17])


async def test_many_writers_make_one_key_for_an_entity(tmp_path: Path) -> None:
    vaults = [vault_of(tmp_path) for _ in range(4)]

    tokens = await asyncio.gather(*(v.seal("market", "anna", {"n": i}) for i, v in enumerate(vaults * 5)))

    assert len({token.split(".")[0] for token in tokens}) == 1
    assert len(set(tokens)) == 20


async def test_without_keys_records_wait_and_the_error_names_the_settings() -> None:
    vault = Vault("", None)

    with pytest.raises(PersonalKeysMissing, match="EVERLOOP_PERSONAL_MASTER_KEY"):
        await vault.seal("market", "anna", {})
    assert await vault.seal_event(observation(), frozenset()) == observation()
    assert not vault.is_configured


async def test_a_store_that_is_locked_is_unavailable(
    vault: Vault, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("everloop_shared.personal.key_store.BUSY_S", 0.1)
    await vault.seal("market", "anna", {})
    holder = sqlite3.connect(tmp_path / "keys" / "keys.db", isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        with pytest.raises(Unavailable):
            await vault.seal("market", "bert", {})
        known = await vault.seal("market", "anna", {})
    finally:
        holder.execute("ROLLBACK")
        holder.close()

    assert known
    assert await vault.seal("market", "bert", {})


def test_the_master_key_is_made_once_for_its_owner_alone_and_never_quoted(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "master.key"
    create_master_key(path)
    first = path.read_bytes()
    create_master_key(path)
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (path, path.parent)]
    key = read_master_keys(path)[0]
    path.chmod(0o644)

    assert (path.read_bytes(), modes) == (first, [0o600, 0o700])
    assert key.to_text() not in repr(key)
    assert str(key.secret) not in repr(key)
    with pytest.raises(Misconfigured, match="chmod 600"):
        read_master_keys(path)


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "ä" * 44, "x\n" * 400])
def test_a_file_that_holds_no_master_key_is_refused_with_the_form(tmp_path: Path, text: str) -> None:
    path = tmp_path / "master.key"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(Misconfigured, match=r"32 random bytes in base64|no key file"):
        read_master_keys(path)


async def test_keys_that_another_master_key_wrapped_open_while_the_file_has_both(vault: Vault, tmp_path: Path) -> None:
    token = await vault.seal("market", "anna", {"fields": {"income": 1}})
    path = tmp_path / "keys" / "master.key"
    old = path.read_text()
    path.write_text(base64.b64encode(os.urandom(32)).decode() + "\n" + old)
    both = vault_of(tmp_path)
    new = await both.seal("market", "bert", {})
    path.write_text(path.read_text().replace(old, ""))

    assert await both.unseal("market", "anna", token) == {"fields": {"income": 1}}
    assert await vault_of(tmp_path).unseal("market", "bert", new) == {}
    with pytest.raises(PersonalKeysMissing, match="lacks the key"):
        await vault_of(tmp_path).unseal("market", "anna", token)


async def test_the_store_knows_who_was_not_seen_for_long(vault: Vault) -> None:
    for entity in ("", "anna", "bert"):
        await vault.seal("market", entity, {})
    today = datetime.now(UTC).date()
    later = today + timedelta(days=40)
    vault.store.find_all("market", ["bert"], later)

    assert [key.entity for key in vault.store.unused_since("market", later, 10)] == ["anna"]
    assert vault.store.unused_since("market", today, 10) == []
    assert vault.store.count() == {"market": 3}
    assert [key.entity for key in vault.store.page(("market", ""), 1)] == ["anna"]


async def test_only_what_is_sealed_counts_as_seen_and_not_what_is_read_again(vault: Vault, tmp_path: Path) -> None:
    token = await vault.seal("market", "anna", {})
    today = datetime.now(UTC).date()
    with sqlite3.connect(tmp_path / "keys" / "keys.db") as store:
        store.execute("UPDATE personal_keys SET last_used = '2020-01-01'")
    store.close()
    read = vault_of(tmp_path)

    assert await read.unseal("market", "anna", token) == {}
    unseen = vault.store.unused_since("market", today, 10)
    await read.seal("market", "anna", {})

    assert [key.entity for key in unseen] == ["anna"]
    assert vault.store.unused_since("market", today, 10) == []
    assert vault.store.destroy_unused("market", "anna", today) is False


async def test_the_key_of_a_comment_is_destroyed_with_the_person_that_it_is_about(vault: Vault) -> None:
    await vault.seal("market", "anna", {})
    data = {"prediction_id": "p-1", "kind": "label", "label": True, "comment": "late again", "received": NOW}
    sealed = await vault.seal_event(event(LabelReceived, "l-1", data, subject="p-1"), NAMES)
    opened = await vault.open_event(sealed)
    vault.set_owner("market", "p-1", "anna")

    called_so = await vault.seal("market", "prediction:p-1", {"fields": {"income": 1}})

    vault.erase("market", "anna")

    assert opened
    assert opened.data.comment == "late again"
    assert await vault.open_event(sealed) is None
    assert await vault.unseal("market", "prediction:p-1", called_so), "an entity may be called so: it has its own key"
    assert vault.store.count() == {"market": 1}


@pytest.mark.parametrize(
    ("made_after_s", "left"),
    [(-1, []), (0, []), (1, ["anna", "prediction:late"]), (3_600, [])],
    ids=["before", "at the moment", "after", "by a clock that is an hour ahead"],
)
async def test_an_erasure_until_a_moment_leaves_a_key_that_was_made_later(
    vault: Vault, tmp_path: Path, made_after_s: int, left: list[str]
) -> None:
    moment = datetime.now(UTC) - timedelta(minutes=10)
    await vault.prepare("market", ["anna", "prediction:early", "prediction:late"])
    made = {"anna": made_after_s, "prediction:early": -5, "prediction:late": 5}
    with sqlite3.connect(tmp_path / "keys" / "keys.db") as store:
        for holder, after_s in made.items():
            owner = None if holder == "anna" else "anna"
            values = [int(moment.timestamp()) + after_s, owner, holder]
            store.execute("UPDATE personal_keys SET made_s = ?, owner = ? WHERE entity = ?", values)
    store.close()

    vault.erase("market", "anna", moment)

    assert [key.entity for key in vault.store.page()] == left


async def test_the_end_of_a_loop_destroys_what_was_made_until_then(vault: Vault, tmp_path: Path) -> None:
    ended = datetime.now(UTC) + timedelta(seconds=1)
    await vault.seal("market", "anna", {})
    with sqlite3.connect(tmp_path / "keys" / "keys.db") as store:
        values = "market", "later", int(ended.timestamp()) + 5
        store.execute(
            "INSERT INTO personal_keys SELECT ?, ?, key_id, master_id, wrapped, last_used, ?, NULL FROM personal_keys",
            values,
        )
    store.close()

    assert vault.erase_loop("market", ended) == 1
    assert [key.entity for key in vault.store.page()] == ["later"]


def prediction(token: str) -> PredictionMade:
    data = {
        "entity": "anna", "features": {"price": 1.0}, "prediction": True, "version": "0", "role": "baseline",
        "propensity": 1.0, "latency_ms": 0.1, "observed": NOW, "door": "rest", "personal": token,
    }  # fmt: skip
    return event(PredictionMade, "order-1", data, subject="order-1")


def test_an_outcome_with_a_token_is_read_as_it_was_written() -> None:
    text = json.loads(prediction("0123456789abcdef.AAAA").encode())
    data = {
        k: text["data"][k] for k in ("entity", "features", "prediction", "version", "role", "propensity", "personal")
    }
    data |= {"prediction_id": "order-1", "label": True, "labelled": text["time"], "predicted": text["time"]}

    outcome = OutcomeObserved.decode(json.dumps(text | {"type": "feature.outcome_observed.v1", "data": data}).encode())

    assert outcome.data.personal == "0123456789abcdef.AAAA"


def test_an_error_at_personal_values_says_where_and_not_what() -> None:
    with pytest.raises(PersonalRecordFailed) as raised, hiding_values():
        float("Ouagadougou")

    assert "Ouagadougou" not in str(raised.value)
    assert "ValueError at test_vault.py" in str(raised.value)
    with pytest.raises(InputRejected, match="refused"), hiding_values():
        raise InputRejected("refused")


def test_keys_that_are_fetched_to_read_the_past_do_not_count_as_used_and_bytes_are_sealed_too(
    vault: Vault, tmp_path: Path
) -> None:
    sealed = vault.seal_bytes_now("market", "anna", b"learned")
    with sqlite3.connect(tmp_path / "keys" / "keys.db") as keys:
        keys.execute("UPDATE personal_keys SET last_used = '2020-01-01'")
    other = vault_of(tmp_path)

    other.fetch_now("market", ["anna", "ben"])

    with sqlite3.connect(tmp_path / "keys" / "keys.db") as keys:
        assert keys.execute("SELECT entity, last_used FROM personal_keys").fetchall() == [("anna", "2020-01-01")]
    assert other.unseal_bytes_now("market", "anna", sealed) == b"learned"
    assert b"learned" not in sealed
    with pytest.raises(InputRejected):
        other.unseal_bytes_now("market", "anna", sealed[:-1] + b"x")
    vault.erase("market", "anna")
    assert vault.unseal_bytes_now("market", "anna", sealed) is None
