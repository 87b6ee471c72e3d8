"""`everloop subject`, `everloop erase` and `everloop personal-keys` on the real registry, feature and training."""

from __future__ import annotations

import asyncio
import json
import stat
from pathlib import Path

import httpx
import pytest
from tests.builders.events import outcome_observed, run_requested
from tests.builders.personal import vault_of
from tests.everloop.served_services import ServedServices, served
from tests.everloop.test_command_line import run
from tests.everloop.test_watch_command import wait_until
from tests.registry.registry_harness import LOOP_FILE, YAML, store_model

from everloop.cli.personal import _asks
from everloop.personal import erasing
from everloop.personal.export import Line
from everloop.personal.learned import LearnedOutcomes, versions_with
from everloop_schemas.erasure import ErasureConfirmed, ErasureDecided
from everloop_schemas.registry import Decided, VersionRegistered
from everloop_schemas.training import RunRequested
from everloop_shared.personal.master import read_master_keys

pytestmark = [pytest.mark.app, pytest.mark.timeout(120)]
PERSONAL = LOOP_FILE.replace("price: {type: number}", "price: {type: number, personal: true, missing: null}")
SECRET = 987654.25


def with_a_person(services: ServedServices) -> None:
    """A loop with outcomes of two persons, and a version that has learned from both; and one of no personal fields."""
    loops, vault = services.urls["registry"] + "/v1/loops", vault_of(services.folder)
    plain = LOOP_FILE.replace("loop: market", "loop: plain")
    for name, file in (("plain", plain), ("market", PERSONAL)):
        assert httpx.put(f"{loops}/{name}", content=file, headers=YAML, timeout=30).status_code == 201
    for n in range(4):
        clear = outcome_observed(f"p-{n}", n % 2 == 0, entity="c-1" if n < 3 else "c-2", features={"price": SECRET + n})
        services.publish(asyncio.run(vault.seal_event(clear, frozenset({"price"}))))
    services.publish(run_requested("a-0"))
    services.publish(store_model("a-0", 2, services.folder / "artifacts"))
    wait_until(lambda: any(isinstance(e, VersionRegistered) for e in services.events(Decided.topic)))
    wait_until(lambda: httpx.get(services.urls["feature"] + "/v1/loops/market", timeout=30).status_code == 200)
    wait_until(lambda: httpx.get(services.urls["training"] + "/v1/loops/market/runs", timeout=30).status_code == 200)


def test_a_person_is_exported_erased_with_a_receipt_and_then_nothing_is_in_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(erasing, "KEYS_REMEMBERED_S", 0.0)
    vault_of(tmp_path)
    with served(tmp_path, "registry", "feature", "training") as services:
        with_a_person(services)
        data, file = ("--data", str(tmp_path)), tmp_path / "c-1.json"
        exported = run("subject", "market", "c-1", "--out", str(file), *data)
        asked = run("erase", "market", "c-1", "--reason", "by letter", *data)
        wrong = run("erase", "market", "c-1", "--reason", "by letter", "--models", "forget", "--yes", *data)
        refused = run("erase", "market", "c-1", "--reason", "by letter", "--models", "keep", *data, stdin="c-2\n")
        erased = run("erase", "market", "c-1", "--reason", "by letter", "--models", "retrain", "--yes", "--json", *data)
        again = run("erase", "market", "c-1", "--reason", "twice", "--models", "keep", "--yes", *data)
        after = run("subject", "market", "c-1", *data)
        plain = ["erase", "plain", "c-2", "--reason", "by letter", "--yes", *data, "--models"]
        unsealed, unlearned = run(*plain, "keep"), run(*plain, "retrain")
        history = run("history", "market", *data).stdout
        decided = [e for e in services.events(Decided.topic) if isinstance(e, ErasureDecided | ErasureConfirmed)]
        decided = [e for e in decided if e.loop == "market"]
        runs = [e for e in services.events(RunRequested.topic) if e.data.key.startswith("manual/erasure/")]

    before, done = json.loads(file.read_text()), json.loads(erased.stdout)
    assert exported.exit_code == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [o["record"]["data"]["features"]["price"] for o in before["outcomes"]] == [SECRET, SECRET + 1, SECRET + 2]
    assert [(v["version"], v["outcomes"]) for v in before["versions"]] == [("a-0@2", 3)]
    assert (asked.exit_code, "--models keep" in asked.stderr, "a-0@2: 3 outcomes" in asked.stderr) == (1, True, True)
    assert (wrong.exit_code, refused.exit_code, "nothing was erased" in refused.stderr) == (2, 1, True)
    assert (done["state"], done["removed"]["sealed"], done["versions"]) == ("erased", True, ["a-0@2"])
    assert done["run"]["reason"].startswith("learn again without")
    assert "stays: what a-0@2 learned" in again.stdout
    assert str(int(SECRET)) not in after.stdout
    assert [e["state"] for e in json.loads(after.stdout)["erasures"]] == ["erased", "erased"]
    assert [type(e) for e in decided] == [ErasureDecided, ErasureConfirmed] * 2
    assert len(runs) == 1
    assert "erasure decided" in history
    assert (unsealed.exit_code, "its values are not sealed" in unsealed.stdout) == (0, True)
    assert (unlearned.exit_code, "choose keep" in unlearned.stderr) == (1, True)


def test_an_erasure_without_a_receipt_is_said_and_stays_decided(tmp_path: Path) -> None:
    with served(tmp_path, "registry") as services:
        loop = services.urls["registry"] + "/v1/loops/market"
        httpx.put(loop, content=PERSONAL, headers=YAML, timeout=30).raise_for_status()
        asks = _asks(str(tmp_path))
        asked = erasing.request(asks, "market", "c-1", "by letter", "keep", [])
        with pytest.raises(erasing.ErasureNotDone, match="decision 1 stays"):
            erasing.wait_for_receipt(asks, "market", "c-1", asked["decision"], within_s=0.1)
        again = erasing.request(asks, "market", "c-1", "by letter", "keep", [])

    assert (asked["decision"], again["decision"], again["state"]) == (1, 1, "pending")


def test_keys_are_counted_and_the_master_key_is_rotated(tmp_path: Path) -> None:
    vault, data = vault_of(tmp_path), ("--data", str(tmp_path))
    token = asyncio.run(vault.seal("market", "c-1", {"fields": {"price": SECRET}}))
    [old] = read_master_keys(tmp_path / "personal" / "master.key")

    before = json.loads(run("personal-keys", "status", "--json", *data).stdout)
    prepared = run("personal-keys", "rotate", "--prepare", *data)
    early = run("personal-keys", "retire", *data)
    rotated = run("personal-keys", "rotate", *data)
    retired = run("personal-keys", "retire", *data)
    after = run("personal-keys", "status", *data)

    assert before == {"loops": {"market": 1}, "master_keys": [old.id], "wrapped_by": {old.id: 1}}
    assert "copy the file to all machines" in prepared.stdout
    assert (early.exit_code, "1 keys are wrapped by older" in early.stderr) == (1, True)
    assert (rotated.exit_code, retired.exit_code) == (0, 0)
    assert old.id not in after.stdout
    assert all(text not in after.stdout for text in (old.to_text(), token))
    assert asyncio.run(vault_of(tmp_path).unseal("market", "c-1", token)) == {"fields": {"price": SECRET}}


def test_no_keys_are_said_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "services.json").write_text("{}")

    answer = run("personal-keys", "status", "--data", str(tmp_path))

    assert (answer.exit_code, "no master key" in answer.stderr) == (1, True)


def test_a_version_made_after_the_erasure_has_not_learned_from_the_person() -> None:
    lines: list[Line] = [
        {"kind": "outcome", "offset": offset, "personal": "erased" if offset < 5 else "opened"} for offset in (3, 4, 9)
    ]
    manifest = {"start_offset": 0, "end_offset": 8}
    of = {"slot": None, "kept": True, "reason": "refresh", "manifest": manifest}
    versions = [
        {"version": "old-0@8", "run": "r1", **of},
        {"version": "new-0@8", "run": "r2", **of},
        {"version": "back-0@20", "run": "r2", **of, "manifest": {"start_offset": 0, "end_offset": 20}},
        {"version": "other-0@2", "run": "r1", **of, "manifest": {"start_offset": 0, "end_offset": 2}},
        {"version": "mine-1@8", "run": "r3", **of, "reason": "submitted"},
    ]
    runs = [{"run": "r1", "requested": "2026-01-01T00:00:00+00:00"}, {"run": "r2", "requested": "2026-01-03T00:00:00Z"}]

    found = versions_with(LearnedOutcomes.of(lines, "2026-01-02T00:00:00.5+00:00"), versions, runs)

    assert [(one["version"], one["outcomes"]) for one in found] == [
        ("old-0@8", 2),
        ("back-0@20", 1),
        ("mine-1@8", None),
    ]
