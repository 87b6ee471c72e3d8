"""The secured installation of `make secure` and `docker compose --profile secure up`, on a real engine."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer  # type: ignore[import-untyped]
from aiokafka.errors import KafkaError, TopicAuthorizationFailedError  # type: ignore[import-untyped]
from tests.compose.conftest import UP
from tests.compose.stack import ONCE, ROOT, Stack, assert_locked_down
from tests.compose.test_compose import until

from everloop import Everloop
from everloop.local.personal import OPENING
from everloop.local.secured_kafka import client_file
from everloop.secured.container_files import container_files
from everloop_schemas.topology import SERVICES
from everloop_shared.messaging.kafka.client import client_settings
from everloop_shared.settings import Settings

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]
LOOP, ROWS = "electricity", 300
GUARDED = ROOT / "tests/acceptance/guarded.py"
ENDED = {*ONCE, "acls", "roles"}
PUBLIC = {"ca.pem", "tls.pem", "kafka.json"}
ROW = dict.fromkeys(("period", "nswprice", "nswdemand", "vicprice", "vicdemand", "transfer"), 0.4)
FORGED = json.dumps({"forged": True}).encode()
REACHES = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5); print('reached')"
CONNECTS = "import psycopg, sys; psycopg.connect(sys.argv[1]); print('reached')"


@pytest.fixture(scope="module")
def replayed(secured: Stack) -> Stack:
    """The installation after `everloop apply` and `everloop replay` with the key of the administrator."""
    secured.everloop("apply", "-f", str(ROOT / "shared/everloop/examples/electricity/loop.yaml"))
    file = str(ROOT / "shared/everloop/examples/electricity/electricity.csv.gz")
    labels = ("--label-column", "class", "--label-delay", "20", "--limit", str(ROWS), "--rate", "100")
    summary = secured.everloop("replay", LOOP, file, *labels)
    assert (summary["accepted"], summary["labels"]) == (ROWS, ROWS)
    return secured


def inside(stack: Stack, name: str, *command: str) -> str:
    """What a command says in a container, on either output."""
    done = stack.execute(name, *command)
    return done.stdout + done.stderr


def trusting(stack: Stack, *, certificate: bool = True) -> ssl.SSLContext:
    """Trusts the installation, with the certificate of its client or without one."""
    folder = stack.secured / "certs"
    context = ssl.create_default_context(cafile=folder / "ca.pem")
    if certificate:
        context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return context


def test_without_what_make_secure_makes_the_profile_starts_nothing(tmp_path: Path) -> None:
    stack = Stack(tmp_path, grafana=False)

    with pytest.raises(AssertionError, match=r"compose\.env not found"):
        stack.compose("--profile", "secure", "up", "--detach")

    assert stack.containers() == {}


def test_all_that_runs_is_locked_down_and_has_no_secret_in_its_settings_or_log(replayed: Stack) -> None:
    containers = replayed.containers()

    assert containers.keys() == {*SERVICES, *replayed.images, *ENDED}
    for name, container in containers.items():
        assert_locked_down(container)
        assert container["HostConfig"]["RestartPolicy"]["Name"] == ("on-failure" if name in ENDED else "unless-stopped")
        assert name not in ENDED or container["State"]["ExitCode"] == 0, name
    said = json.dumps(containers) + replayed.compose("logs", "--no-color")
    assert "PGPASSWORD" not in said
    for secret in secrets_of(replayed.secured):
        assert secret not in said


def test_the_acceptance_of_a_guarded_installation_finds_nothing_to_refuse_in_its_containers(secured: Stack) -> None:
    told = secured.run(sys.executable, str(GUARDED), "--only", "containers", "--project", secured.project)

    assert "Kafka and PostgreSQL share no network" in told
    assert "no role of a service is superuser" in told


def secrets_of(folder: Path) -> set[str]:
    """Tokens, passwords, and the middle lines of private keys."""
    found = {
        (folder / "tokens" / name).read_text().strip() for name in ("admin", "serving", "monitoring", "prometheus")
    }
    found |= {file.read_text().strip().rpartition(":")[2] for file in (folder / "postgres").glob("*.pgpass")}
    for file in container_files(folder):
        if file.name not in PUBLIC and b"PRIVATE KEY" in file.content:
            found |= {file.content.decode().splitlines()[1]}
    assert len(found) > 12
    return found


def test_the_loop_closes_signed_and_every_decision_is_verified(replayed: Stack) -> None:
    status = until(lambda: replayed.status(LOOP) if counted(replayed) else {}, 120)

    verified = replayed.everloop("audit", "verify", LOOP)
    with Everloop(str(replayed.secured)) as client:
        predicted = client.predict(LOOP, ROW, id="one-more")

    assert status["dead_letters"] == 0
    assert predicted.version
    assert verified


def counted(stack: Stack) -> bool:
    status = stack.status(LOOP)
    return bool(status) and [status[n] for n in ("events", "predictions", "outcomes")] == [ROWS, ROWS, ROWS]


def test_nobody_is_answered_without_certificate_and_token(secured: Stack) -> None:
    for name in SERVICES:
        address = ("127.0.0.1", secured.ports[name])
        assert answer(address, trusting(secured), "GET /v1/loops") == b"401", name
        assert answer(address, trusting(secured), "GET /readyz") == b"200", name
        assert answer(address, trusting(secured, certificate=False), "GET /readyz") == b"", name
    for name in (*SERVICES, "serving_grpc", "kafka"):
        assert answer(("127.0.0.1", secured.ports[name]), None, "GET /livez") == b"", f"{name} answers in clear"


def answer(address: tuple[str, int], context: ssl.SSLContext | None, request: str) -> bytes:
    """The status of the answer; nothing where there is none."""
    try:
        with socket.create_connection(address, 30) as plain, ExitStack() as closing:
            wrap = context.wrap_socket(plain, server_hostname=address[0]) if context else plain
            connection = closing.enter_context(wrap)
            connection.sendall(f"{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return bytes([*connection.recv(100).split(), b"", b""][1])
    except OSError:
        return b""


def test_a_database_is_reached_by_its_role_alone_with_tls_and_without_more_rights(secured: Stack) -> None:
    rights = "select rolname, rolsuper or rolcreatedb or rolcreaterole or rolreplication or rolbypassrls from pg_roles"
    query = f"{rights} where rolname like 'everloop%' order by 1"
    asked = ("psql", "--username", "everloop", "--dbname", "registry", "--csv", "--tuples-only", "--command")
    login = "host=postgres user={user} dbname={database} {more} passfile=/run/everloop/database.pgpass"
    verify = "sslmode=verify-full sslrootcert=/run/everloop/ca.pem"

    def connect(user: str, database: str, more: str) -> str:
        return inside(
            secured, "registry", "python", "-c", CONNECTS, login.format(user=user, database=database, more=more)
        )

    assert inside(secured, "postgres", *asked, query).split() == [
        "everloop,t", "everloop_monitoring,f", "everloop_registry,f",
    ]  # fmt: skip
    assert connect("everloop_registry", "registry", verify) == "reached\n"
    for user, database, more in (
        ("everloop_registry", "registry", "sslmode=disable"),
        ("everloop_registry", "monitoring", verify),
        ("everloop", "registry", f"{verify} password=guess"),
    ):
        assert "no pg_hba.conf entry" in connect(user, database, more), (user, database)


def test_a_container_reaches_what_it_needs_and_nothing_else(secured: Stack) -> None:
    def reaches(name: str, host: str, port: int) -> bool:
        return "reached" in inside(secured, name, "python", "-c", REACHES, host, str(port))

    assert {name for name in SERVICES if reaches(name, "postgres", 5432)} == {"registry", "monitoring"}
    assert {name for name in SERVICES if reaches(name, "keys", 5432)} == set(OPENING)
    assert all(reaches(name, "kafka", 9092) for name in SERVICES)
    for name in ("prometheus", "alertmanager", "postgres", "keys"):
        assert "kafka" not in networks_of(secured, name)
    assert networks_of(secured, "postgres") == {"postgres", "registry", "monitoring"}
    assert networks_of(secured, "keys") == {"keys", *OPENING}


def networks_of(stack: Stack, name: str) -> set[str]:
    """The containers that share a network with this one."""
    containers = stack.containers()
    own = set(containers[name]["NetworkSettings"]["Networks"]) - {"none"}
    return {
        other for other, c in containers.items() if own & set(c["NetworkSettings"]["Networks"]) and other not in ENDED
    }


@pytest.mark.parametrize(
    ("user", "refused"), [("ingest", TopicAuthorizationFailedError), ("client", TopicAuthorizationFailedError),
                          (None, KafkaError)],
)  # fmt: skip
async def test_a_forged_state_is_refused_by_the_broker(
    replayed: Stack, tmp_path: Path, user: str | None, refused: type[Exception]
) -> None:
    before = replayed.status(LOOP)["champion"]
    certificates, settings = replayed.secured / "certs", {"security_protocol": "SSL"}
    settings["ssl_cafile"] = str(certificates / "ca.pem")
    if user:
        settings |= {
            f"ssl_{kind}file": str(certificates / f"{user}.{end}") for kind, end in (("cert", "pem"), ("key", "key"))
        }
    config = tmp_path / "kafka.json"
    config.write_text(json.dumps(settings))

    with pytest.raises(refused):
        await write(replayed, config, tmp_path)

    assert client_file(certificates, "admin").exists()
    assert replayed.status(LOOP)["champion"] == before


async def write(stack: Stack, config: Path, data: Path) -> None:
    """Write a forged state. Raises KafkaError, also for a broker that closes the connection."""
    bootstrap = f"127.0.0.1:{stack.ports['kafka']}"
    producer = AIOKafkaProducer(
        **client_settings(Settings(data=data, kafka_bootstrap=bootstrap, kafka_config=config), "forger")
    )
    try:
        await producer.start()
        await asyncio.wait_for(producer.send_and_wait("registry.loop_state.v1", FORGED, LOOP.encode()), 30)
    finally:
        await producer.stop()


def test_prometheus_reaches_everybody_by_tls_and_knows_when_certificates_end(secured: Stack) -> None:
    def up() -> set[str]:
        targets = secured.ask("targets")["activeTargets"]
        return {t["labels"]["job"] for t in targets if t["health"] == "up" and t["labels"]["job"] in SERVICES}

    assert until(lambda: up() == set(SERVICES), 60), secured.ask("targets")
    ends = until(lambda: secured.ask("query?query=everloop_tls_valid_until_seconds")["result"], 60)
    assert {series["metric"]["service"] for series in ends} == set(SERVICES)


def test_renewed_certificates_are_used_without_a_restart_and_the_loop_goes_on(replayed: Stack) -> None:
    before = {name: certificate(replayed, name) for name in SERVICES}
    starts = {name: c["State"]["StartedAt"] for name, c in replayed.containers().items()}

    replayed.everloop("certs", str(replayed.secured / "certs"), "--renew")
    replayed.make("secure")

    assert until(lambda: all(certificate(replayed, name) != before[name] for name in SERVICES), 30)
    replayed.compose(
        "restart", "kafka", "postgres", "keys"
    )  # which read theirs at their start; the services connect again
    assert until(lambda: not replayed.unhealthy(), 300), replayed.unhealthy()
    file = str(ROOT / "shared/everloop/examples/electricity/electricity.csv.gz")
    labels = ("--label-column", "class", "--label-delay", "20", "--skip", str(ROWS), "--limit", "100")
    assert until(lambda: published(replayed, file, labels), 60)
    names = {name: c["State"]["StartedAt"] for name, c in replayed.containers().items() if name in SERVICES}
    assert names == {name: starts[name] for name in SERVICES}


def published(stack: Stack, file: str, labels: tuple[str, ...]) -> bool:
    """Whether 100 more rows were taken."""
    try:
        return bool(stack.everloop("replay", LOOP, file, *labels)["accepted"] == 100)
    except AssertionError:
        return False


def certificate(stack: Stack, name: str) -> bytes:
    """What a service shows to a new connection."""
    address = ("127.0.0.1", stack.ports[name])
    with (
        socket.create_connection(address, 10) as plain,
        trusting(stack).wrap_socket(plain, server_hostname="localhost") as c,
    ):
        return c.getpeercert(binary_form=True) or b""


def test_a_second_time_nothing_is_made_and_all_is_there(replayed: Stack) -> None:
    before: dict[str, Any] = replayed.status(LOOP)

    replayed.make("secure")
    replayed.compose(*UP)

    assert before
    assert until(lambda: replayed.status(LOOP).get("events", 0) >= before["events"], 60), "nothing is forgotten"
