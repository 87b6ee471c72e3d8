"""The commands about keys: made, trusted, listed, revoked; and what was there before signatures is adopted."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from tests.everloop.served_services import served
from tests.everloop.test_command_line import run
from tests.registry.registry_harness import LOOP_FILE, store_model

from everloop.cli.ask import ask
from everloop_shared.signing.keys import SigningKey
from everloop_shared.signing.trust import TrustStore

KEY_ID = re.compile(r"[0-9a-f]{16}")


def made(command: str, *arguments: str) -> Any:
    """What a command says as JSON."""
    out = run("signing", command, *arguments, "--json")
    assert out.exit_code == 0, out.output
    return json.loads(out.stdout)


def test_a_key_is_made_trusted_listed_and_revoked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, trusted = tmp_path / "training.key", tmp_path / "trusted.json"
    monkeypatch.setenv("EVERLOOP_TRUSTED_KEYS", str(trusted))

    key = made("create", str(file))
    made("trust", str(file), "--signs", "artifacts,snapshots", "--name", "training")
    made("trust", key["public_key"], "--signs", "artifacts", "--name", "training", "--until", "2099-01-01T00:00:00Z")
    listed = made("list")["keys"]
    store = TrustStore(trusted)
    before = store.distrusts(key["id"], "artifacts")
    made("revoke", key["id"])
    after, table = store.distrusts(key["id"], "artifacts"), run("signing", "list").stdout

    assert KEY_ID.fullmatch(key["id"])
    assert SigningKey.read(file).id == key["id"]
    assert [(id, entry["signs"], entry["name"]) for id, entry in listed.items()] == [
        (key["id"], ["artifacts"], "training")
    ]
    assert (before, "revoked" in (after or "")) == (None, True)
    assert key["id"] in table
    assert trusted.stat().st_mode & 0o777 == 0o644
    assert "PRIVATE" not in trusted.read_text()


def test_what_cannot_be_done_is_said_in_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EVERLOOP_TRUSTED_KEYS", raising=False)
    file, trusted = str(tmp_path / "a.key"), str(tmp_path / "trusted.json")
    made("create", file)
    made("trust", file, "--signs", "backups", "--trusted", trusted)

    said = {
        "there": run("signing", "create", file),
        "unnamed": run("signing", "list"),
        "use": run("signing", "trust", file, "--signs", "everything", "--trusted", trusted),
        "no key": run("signing", "trust", "x" * 42 + "!", "--signs", "backups", "--trusted", trusted),
        "time": run("signing", "trust", file, "--signs", "backups", "--until", "soon", "--trusted", trusted),
        "unknown": run("signing", "revoke", "0" * 16, "--trusted", trusted),
    }

    assert {name: out.exit_code for name, out in said.items()} == dict.fromkeys(said, 1)
    assert "EVERLOOP_TRUSTED_KEYS" in said["unnamed"].stderr
    assert "artifacts, decisions, snapshots, backups" in said["use"].stderr


@pytest.mark.app
def test_what_is_there_is_adopted(tmp_path: Path) -> None:
    trusted, data = tmp_path / "trusted.json", ("--data", str(tmp_path))
    trusted.write_text("{}")
    with served(tmp_path, "registry"):
        for name in ("market", "churn"):
            file = LOOP_FILE.replace("market", name).encode()
            ask("registry", f"/v1/loops/{name}", data[1], method="PUT", content=file, content_type="application/yaml")
        ask("registry", "/v1/loops/churn?reason=test", data[1], method="DELETE")
        version = store_model("a-0", 200, tmp_path / "artifacts")

        adopted = made("adopt", "--trusted", str(trusted), *data)

    assert adopted["decisions"] == {"churn": 2, "market": 1}
    assert TrustStore(trusted).adopted.artifacts == {version.data.sha256} == {*adopted["artifacts"]}


@pytest.mark.app
def test_artifacts_of_services_on_the_memory_bus_are_adopted_from_their_own_folder(tmp_path: Path) -> None:
    trusted = tmp_path / "trusted.json"
    trusted.write_text("{}")
    with served(tmp_path, "registry"):
        listed = tmp_path / "services.json"
        listed.write_text(json.dumps({**json.loads(listed.read_text()), "topics": {"url": "http://127.0.0.1:1"}}))
        version = store_model("a-0", 200, tmp_path / "memory" / "artifacts")
        store_model("old-0", 100, tmp_path / "artifacts")

        adopted = made("adopt", "--trusted", str(trusted), "--data", str(tmp_path))

    assert adopted["artifacts"] == [version.data.sha256]
