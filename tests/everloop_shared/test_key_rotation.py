"""The master key is replaced while services use it, and nothing is lost where that ends half-way."""

from __future__ import annotations

from pathlib import Path

import pytest

from everloop_shared.personal import Vault
from everloop_shared.personal.__main__ import main
from everloop_shared.personal.master import create_master_key, read_master_keys
from everloop_shared.personal.rotation import RotationUnfinished, add_master_key, retire, wrap_again


@pytest.fixture
def master(tmp_path: Path) -> Path:
    create_master_key(tmp_path / "master.key")
    return tmp_path / "master.key"


def vault_of(master: Path) -> Vault:
    return Vault(f"sqlite:///{master.parent}/keys.db", master)


async def test_all_keys_are_wrapped_by_the_new_one_and_services_go_on_without_a_restart(master: Path) -> None:
    running = vault_of(master)
    tokens = {f"e-{i}": await running.seal("market", f"e-{i}", {"income": i}) for i in range(7)}
    store = vault_of(master).store
    [old] = read_master_keys(master)

    new = add_master_key(master, store)
    done = wrap_again(master, store)
    for entity in tokens:
        running.forget("market", entity)
    opened = [await running.unseal("market", entity, token) for entity, token in tokens.items()]
    await running.seal("market", "new", {})
    removed = retire(master, store)

    assert (done, removed, store.count_wrapped()) == (7, 1, {new.id: 8})
    assert opened == [{"income": i} for i in range(7)]
    assert [key.id for key in read_master_keys(master)] == [new.id] != [old.id]
    assert master.stat().st_mode & 0o777 == 0o600
    assert await vault_of(master).unseal("market", "e-3", tokens["e-3"]) == {"income": 3}


async def test_a_rotation_that_ended_half_way_goes_on_with_its_key_and_the_old_one_stays_until_it_is_done(
    master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = vault_of(master)
    for i in range(9):
        await vault.seal("market", f"e-{i}", {})
    new = add_master_key(master, vault.store)
    monkeypatch.setattr("everloop_shared.personal.rotation.PAGE", 2)

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        wrap_again(master, vault.store, stop)
    with pytest.raises(RotationUnfinished, match="7 keys"):
        retire(master, vault.store)
    again = add_master_key(master, vault.store)

    assert again.id == new.id
    assert wrap_again(master, vault.store) == 7
    assert retire(master, vault.store) == 1


async def test_a_key_that_is_erased_during_the_rotation_does_not_come_back(
    master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = vault_of(master)
    await vault.seal("market", "anna", {})
    add_master_key(master, vault.store)
    listed = vault.store.wrapped_by_others
    pages = iter([listed(read_master_keys(master)[0].id), []])
    vault.erase("market", "anna")
    monkeypatch.setattr(vault.store, "wrapped_by_others", lambda *of: next(pages))

    wrap_again(master, vault.store)

    assert vault.store.count() == {}


async def test_in_containers_the_master_key_is_made_once_and_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    master = tmp_path / "master.key"
    monkeypatch.setenv("EVERLOOP_PERSONAL_MASTER_KEY", str(master))
    monkeypatch.setenv("EVERLOOP_PERSONAL_KEYS_URL", f"sqlite:///{tmp_path}/keys.db")

    said = [main([]), main([])]
    [old] = read_master_keys(master)
    token = await vault_of(master).seal("market", "e-1", {"income": 1})
    said += [main(["rotate"]), main(["retire"])]

    assert [key.id for key in read_master_keys(master)] != [old.id]
    assert await vault_of(master).unseal("market", "e-1", token) == {"income": 1}
    assert said[2].startswith("1 keys are wrapped by ")
    assert old.to_text() not in " ".join(said)
