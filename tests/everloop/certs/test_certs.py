"""`everloop certs`: what it makes is trusted by TLS, private, and renewed when it is due."""

from __future__ import annotations

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tests.everloop.test_command_line import run

from everloop.certs.folder import CertificatesUnusable, ensure_certificates
from everloop_schemas.topology import SERVICES

NOW = datetime(2026, 5, 1, tzinfo=UTC)


def handshake(folder: Path, server: str, *, host: str, client: str | None = None) -> None:
    """Let OpenSSL connect the two in memory; raises ssl.SSLError where either refuses the other."""
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=folder / "ca.pem")
    serving.load_cert_chain(folder / f"{server}.pem", folder / f"{server}.key")
    serving.verify_mode = ssl.CERT_REQUIRED if client else ssl.CERT_NONE
    asking = ssl.create_default_context(cafile=folder / "ca.pem")
    asking.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    if client:
        asking.load_cert_chain(folder / f"{client}.pem", folder / f"{client}.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        asking.wrap_bio(to_client, to_server, server_hostname=host),
        serving.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    assert all(end.version() in ("TLSv1.2", "TLSv1.3") and end.cipher() for end in ends)


def test_services_kafka_postgresql_and_clients_get_certificates_that_openssl_trusts(tmp_path: Path) -> None:
    done = run("certs", str(tmp_path / "certs"), "--host", "everloop.example", "--client", "shop", "--json")

    assert done.exit_code == 0, done.stderr
    made = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert set(made) == {"ca", *SERVICES, "kafka", "postgres", "keys", "client", "admin", "shop"}
    for host in ("127.0.0.1", "localhost", "ingest", "everloop.example"):
        handshake(tmp_path / "certs", "ingest", host=host, client="shop")
    with pytest.raises(ssl.SSLError, match="Hostname mismatch"):
        handshake(tmp_path / "certs", "ingest", host="registry")


def test_keys_are_their_owner_s_alone(tmp_path: Path) -> None:
    folder = tmp_path / "certs"

    ensure_certificates(folder)

    assert {file.stat().st_mode & 0o777 for file in folder.glob("*.key")} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not list(folder.glob(".*"))


def test_a_second_call_keeps_everything_until_a_third_of_the_time_is_left(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, clients=["shop"], days=90, now=NOW)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}

    again = ensure_certificates(tmp_path, days=90, now=NOW + timedelta(days=59))
    after = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    late = ensure_certificates(tmp_path, days=90, now=NOW + timedelta(days=61))

    assert {each.done for each in again} == {"kept"}
    assert after == before
    assert {each.name: each.done for each in late} == {each.name: "renewed" for each in again} | {"ca": "kept"}
    assert min(each.valid_until for each in late) == NOW + timedelta(days=151)


def test_a_further_host_is_added_to_those_that_are_there(tmp_path: Path) -> None:
    ensure_certificates(tmp_path, hosts=["one.example"])

    found = {each.name: each for each in ensure_certificates(tmp_path, hosts=["two.example", "2001:DB8:0::1"])}
    again = ensure_certificates(tmp_path, hosts=["2001:db8::1"])

    assert found["serving"].done == "renewed"
    assert found["client"].done == "kept"
    assert {"one.example", "two.example", "2001:db8::1"} <= set(found["serving"].hosts)
    assert {each.done for each in again} == {"kept"}


def test_a_certificate_of_another_authority_is_made_again(tmp_path: Path) -> None:
    ensure_certificates(tmp_path)
    for name in ("ca.pem", "ca.key"):
        (tmp_path / name).unlink()

    found = ensure_certificates(tmp_path)

    assert {each.done for each in found} == {"made", "renewed"}
    handshake(tmp_path, "kafka", host="kafka", client="admin")


def test_a_key_that_is_not_that_of_its_certificate_is_named(tmp_path: Path) -> None:
    ensure_certificates(tmp_path)
    (tmp_path / "ingest.key").write_bytes((tmp_path / "feature.key").read_bytes())

    with pytest.raises(CertificatesUnusable, match=r"ingest\.pem and ingest\.key cannot be used .* move"):
        ensure_certificates(tmp_path)


@pytest.mark.parametrize(("option", "value"), [("--host", "a b"), ("--client", "../x"), ("--client", "")])
def test_names_that_are_none_are_wrong_use(tmp_path: Path, option: str, value: str) -> None:
    done = run("certs", str(tmp_path), option, value)

    assert done.exit_code == 2
    assert option in done.stderr
    assert not list(tmp_path.iterdir())
