"""Roles on a real PostgreSQL with TLS: what a service may do there, what it may not, and how it connects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psycopg
import pytest
from psycopg import errors
from tests.everloop.postgres.tls_postgres import TlsPostgres, tls_postgres
from tests.everloop.test_command_line import run

import everloop_monitoring
import everloop_registry
from everloop.certs.folder import ensure_certificates
from everloop.postgres.roles import OWNERS
from everloop_shared.database import Database
from everloop_shared.errors import Misconfigured
from everloop_shared.personal.key_store import KeyStore, WrappedKey

pytestmark = pytest.mark.postgres
MIGRATIONS = {
    module.__name__.removeprefix("everloop_"): Path(str(module.__file__)).parent / "migrations"
    for module in (everloop_registry, everloop_monitoring)
}


@dataclass
class Secured:
    """A server with TLS whose roles are made, in the database `postgres`."""

    server: TlsPostgres
    folder: Path

    def url(self, service: str, **changes: str) -> str:
        """How a service connects."""
        options = {
            "sslmode": "verify-full",
            "sslrootcert": str(self.folder / "certs" / "ca.pem"),
            "passfile": str(self.folder / "postgres" / f"{service}.pgpass"),
        } | changes
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"postgresql://everloop_{service}@127.0.0.1:{self.server.port}/postgres?{query}"

    def roles(self, *options: str) -> None:
        """Run what the command prints."""
        done = run("postgres-roles", str(self.folder / "postgres"), *options)
        assert done.exit_code == 0, done.stderr
        for file in (self.folder / "postgres").iterdir():
            assert file.read_text().strip().rpartition(":")[2] not in done.stdout
        with psycopg.connect(self.server.socket_url) as connection:
            connection.execute(done.stdout.encode())


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """The server; the schema of the registry was made by its superuser before."""
    folder = tmp_path_factory.mktemp("secured")
    ensure_certificates(folder / "certs")
    with tls_postgres(folder / "certs") as server:
        with psycopg.connect(server.socket_url) as connection:
            connection.execute("CREATE SCHEMA registry")
            connection.execute("CREATE TABLE registry.from_before (id serial PRIMARY KEY)")
        found = Secured(server, folder)
        found.roles()
        yield found


async def test_services_migrate_and_write_as_roles_of_their_own_over_verified_tls(secured: Secured) -> None:
    for service in OWNERS:
        async with Database(secured.url(service), MIGRATIONS[service], schema=service) as database:
            async with database.engine.begin() as connection:
                asked = "SELECT current_user, ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
                who = (await connection.exec_driver_sql(asked)).one()
                owners = await connection.exec_driver_sql(
                    f"SELECT DISTINCT tableowner FROM pg_tables WHERE schemaname = '{service}'"
                )
                assert [tuple(row) for row in owners] == [(f"everloop_{service}",)]
        assert tuple(who) == (f"everloop_{service}", True)


def test_no_role_is_a_superuser_or_may_make_roles_and_databases(secured: Secured) -> None:
    with psycopg.connect(secured.server.socket_url) as connection:
        found = connection.execute(
            "SELECT rolname FROM pg_roles WHERE rolname LIKE 'everloop_%' AND NOT"
            " (rolsuper OR rolcreatedb OR rolcreaterole OR rolreplication OR rolbypassrls)"
        ).fetchall()

    assert {row[0] for row in found} == {f"everloop_{service}" for service in OWNERS}


def test_a_role_sees_nothing_of_another_and_makes_nothing_elsewhere(secured: Secured) -> None:
    for statement in (
        "SELECT * FROM registry.from_before",
        "CREATE TABLE public.mine (id int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "COPY (SELECT 1) TO '/tmp/mine'",
    ):
        with psycopg.connect(secured.url("monitoring")) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(statement.encode())


def test_the_keys_of_personal_fields_have_a_role_that_sees_nothing_else(secured: Secured) -> None:
    secured.roles("--service", "personal")

    store = KeyStore(secured.url("personal"))
    try:
        store.add(WrappedKey("churn", "customer-7", "key", "master", b"wrapped", date(2026, 5, 3)))
        assert store.count() == {"churn": 1}
    finally:
        store.close()
    for user, table in (("personal", "registry.from_before"), ("registry", "personal.personal_keys")):
        with psycopg.connect(secured.url(user)) as connection, pytest.raises(errors.InsufficientPrivilege):
            connection.execute(f"SELECT * FROM {table}".encode())


async def test_plain_connections_and_servers_that_cannot_be_verified_are_refused(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensure_certificates(tmp_path / "stranger")
    stranger = str(tmp_path / "stranger" / "ca.pem")
    monkeypatch.setattr("everloop_shared.database.WAIT_FOR_DATABASE_S", 0.0)

    with pytest.raises(psycopg.OperationalError, match="no encryption"):
        psycopg.connect(secured.url("registry", sslmode="disable"))
    for url in (
        secured.url("registry", sslrootcert=stranger),
        secured.url("registry").replace("127.0.0.1", "localhost.localdomain") + "&hostaddr=127.0.0.1",
    ):
        with pytest.raises(Misconfigured, match="certificate"):
            async with Database(url, schema="registry"):
                pass


async def test_running_it_again_keeps_passwords_and_access(secured: Secured) -> None:
    before = (secured.folder / "postgres" / "registry.pgpass").read_bytes()

    secured.roles()

    assert (secured.folder / "postgres" / "registry.pgpass").read_bytes() == before
    assert (secured.folder / "postgres" / "registry.pgpass").stat().st_mode & 0o777 == 0o600
    with psycopg.connect(secured.url("registry")) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
