"""`everloop secure`: everything is made once and kept, and each container gets its own secrets and no others."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections import defaultdict
from pathlib import Path

import pytest
from tests.everloop.test_command_line import run

from everloop.local.discovery import find_installation, find_tls, find_token
from everloop.local.personal import OPENING
from everloop.secured.container_files import USER, container_files, write_tar
from everloop.secured.folder import ensure_secured
from everloop.secured.unpack import unpack
from everloop_shared.access.key_file import read_key_file
from everloop_shared.signing.keys import SigningKey
from everloop_shared.signing.trust import TrustFile

PUBLIC = {"ca.pem", "tls.pem", "kafka.json"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("secured") / "new"
    ensure_secured(folder)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {path: path.read_bytes() for path in found}


def test_a_second_call_changes_nothing_and_says_so(folder: Path) -> None:
    before = contents(folder)

    done = run("secure", str(folder), "--json")

    assert json.loads(done.stdout) == {"folder": str(folder), "done": []}
    assert contents(folder) == before


def test_what_is_secret_can_be_read_by_its_owner_alone(folder: Path) -> None:
    modes = {path.relative_to(folder): stat.S_IMODE(path.stat().st_mode) for path in contents(folder)}
    open_to_all = {str(path) for path, mode in modes.items() if mode & 0o077}

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    certificates = {str(path) for path in modes if path.parent.name == "certs" and path.suffix == ".pem"}
    assert open_to_all == certificates | {"shared/ca.pem", "shared/keys.json", "shared/trusted.json"}


def test_what_was_revoked_stays_so(tmp_path: Path) -> None:
    ensure_secured(tmp_path)
    trusted, key = tmp_path / "shared/trusted.json", SigningKey.read(tmp_path / "signing/training.key")
    revoked = run("signing", "revoke", key.id, "--all", "--trusted", str(trusted))
    run("keys", "revoke", read_key_file(tmp_path / "shared/keys.json").keys[2].prefix, "--file",
        str(tmp_path / "shared/keys.json"))  # fmt: skip

    done = ensure_secured(tmp_path)

    assert revoked.exit_code == 0
    assert TrustFile.read(trusted).keys[key.id].revoked is not None
    keys = read_key_file(tmp_path / "shared/keys.json").keys
    assert [(found.subject, found.kind, found.revoked is None) for found in keys] == [
        ("admin", "key", True),
        ("everloop/serving", "service", True),
        ("everloop/prometheus", "service", False),
        ("everloop/monitoring", "service", True),
        ("everloop/prometheus", "service", True),
    ], "a new token takes the place of one that is refused"
    assert done == []


def test_a_container_gets_its_own_secrets_and_no_others(folder: Path) -> None:
    secrets = defaultdict(set)
    for file in container_files(folder):
        if file.name not in PUBLIC:
            secrets[file.content].add(file.container)

    shared = secrets.pop((folder / "postgres/personal.pgpass").read_bytes())
    assert shared == {*OPENING, "masterkey"}, "they share the store of the keys of personal fields"
    assert all(len(containers) == 1 for containers in secrets.values()), "a secret has one reader"
    everything = b"".join(file.content for file in container_files(folder))
    for never in ("certs/ca.key", "tokens/admin"):
        assert (folder / never).read_bytes().strip() not in everything, never


def test_the_tar_has_the_owner_and_the_mode_of_each_file(folder: Path) -> None:
    out = io.BytesIO()
    write_tar(folder, out)

    entries = {each.name: each for each in tarfile.open(fileobj=io.BytesIO(out.getvalue()))}

    assert {(each.uid, each.gid, each.mode) for each in entries.values()} == {(USER, USER, 0o400), (0, USER, 0o440)}
    assert entries["training/signing.key"].uid == USER
    assert entries["postgres/tls.key"].uid == 0


def test_files_are_replaced_with_their_mode_and_odd_names_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ingest").mkdir()
    (tmp_path / "ingest/tls.key").write_bytes(b"old")
    tars = {name: io.BytesIO() for name in ("ingest/tls.key", "../tls.key", "ingest/../../x")}
    for name, out in tars.items():
        with tarfile.open(fileobj=out, mode="w|") as tar:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid, entry.gid = 3, 0o400, os.getuid(), os.getgid()
            tar.addfile(entry, io.BytesIO(b"new"))
        out.seek(0)

    count = unpack(tars.pop("ingest/tls.key"), str(tmp_path))

    assert count == 1
    assert (tmp_path / "ingest/tls.key").read_bytes() == b"new"
    assert stat.S_IMODE((tmp_path / "ingest/tls.key").stat().st_mode) == 0o400
    for odd in tars.values():
        with pytest.raises(ValueError, match="is no file of a container"):
            unpack(odd, str(tmp_path))


def test_the_command_finds_addresses_certificates_and_token_in_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVERLOOP_SERVING_PORT", "18005")
    ensure_secured(folder)

    found, tls, token = find_installation(str(folder)), find_tls(str(folder)), find_token(str(folder))

    assert (found.url("serving"), found.kafka()) == ("https://127.0.0.1:18005", "127.0.0.1:9092")
    assert found.kafka_config == folder / "certs/admin.kafka.json"
    assert tls
    assert tls.certificate == folder / "certs/client.pem"
    assert token
    assert token.header("https://127.0.0.1:18005")["authorization"].startswith("Bearer evl_")
