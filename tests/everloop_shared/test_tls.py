"""TLS of the HTTP endpoint: what is refused, what is renewed without a restart, and what a handshake may take."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from fastapi import APIRouter
from tests.engines.buses import until

from everloop.certs.folder import ensure_certificates
from everloop.local.ports import free_port
from everloop_shared.errors import Misconfigured
from everloop_shared.http import HttpEndpoint
from everloop_shared.http_client import HttpConnections, HttpRequest, NotConnected, ProtocolError
from everloop_shared.messaging.kafka.renewed_context import RenewedContext, TlsFiles
from everloop_shared.service import Service
from everloop_shared.settings import Settings
from everloop_shared.tls import ClientContext, ClientTls

pytestmark = pytest.mark.app

REQUEST = HttpRequest("GET", b"/livez", [(b"host", b"localhost")])
StartService = Callable[..., AbstractAsyncContextManager[int]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates, and those of a stranger below `stranger`."""
    folder = tmp_path_factory.mktemp("certs")
    ensure_certificates(folder)
    ensure_certificates(folder / "stranger")
    return folder


@pytest.fixture
def start_service(tmp_path: Path, made: Path) -> StartService:
    """Starts a service with TLS on the kind of event loop that services run on; gives its port."""

    @asynccontextmanager
    async def run(**settings: Any) -> AsyncIterator[int]:
        files = {"tls_cert": made / "ingest.pem", "tls_key": made / "ingest.key"}
        own = Settings(data=tmp_path, port=free_port(), **(files | settings))
        served = Service("ingest", own, [HttpEndpoint("ingest", own, APIRouter())])
        loop, stop = uvloop.new_event_loop(), asyncio.Event()
        with ThreadPoolExecutor(1) as thread:
            running = thread.submit(loop.run_until_complete, served.run(stop))
            try:
                await until(lambda: served.not_ready() is None)
                yield own.port
            finally:
                loop.call_soon_threadsafe(stop.set)
                await asyncio.wrap_future(running)
                loop.close()

    return run


async def ask(port: int, tls: ClientTls) -> int:
    """The status of a request; raises NotConnected where there is no agreement on TLS."""
    connections = HttpConnections(ClientContext(tls))
    try:
        return (await connections.send(("localhost", port), REQUEST, connect_s=5, read_s=5)).status
    finally:
        connections.close()


async def answer_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The first line of the answer to a request on a connection that stays open."""
    writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    length = next(line for line in head.lower().splitlines() if line.startswith(b"content-length:"))
    await reader.readexactly(int(length.partition(b":")[2]))
    return head.partition(b"\r\n")[0]


async def test_a_client_that_trusts_the_authority_is_answered_and_others_give_up(
    start_service: StartService, made: Path
) -> None:
    async with start_service() as port:
        assert await ask(port, ClientTls(made / "ca.pem")) == 200

        for untrusted in (ClientTls(), ClientTls(made / "stranger" / "ca.pem")):
            with pytest.raises(NotConnected, match="CERTIFICATE_VERIFY_FAILED"):
                await ask(port, untrusted)


async def test_a_plain_request_is_refused_and_counted(start_service: StartService, made: Path) -> None:
    async with start_service() as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")

        answer = await asyncio.wait_for(reader.read(), 5)
        async with httpx.AsyncClient(verify=ClientTls(made / "ca.pem").context()) as http:
            metrics = (await http.get(f"https://localhost:{port}/metrics")).text

        assert b"HTTP" not in answer
        assert 'everloop_http_refused_total{service="ingest",status="495"}' in metrics
        assert 'everloop_tls_valid_until_seconds{service="ingest"}' in metrics
        writer.close()


async def test_versions_before_tls_1_2_are_refused(start_service: StartService, made: Path) -> None:
    versions = (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)
    agreed = []

    async with start_service() as port:
        for version in versions:
            context = ssl.create_default_context(cafile=made / "ca.pem")
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("localhost", port, ssl=context)
                agreed.append(writer.get_extra_info("ssl_object").version())
                writer.close()

    assert agreed == ["TLSv1.2", "TLSv1.3"]


async def test_with_an_authority_of_clients_only_its_clients_are_answered(
    start_service: StartService, made: Path
) -> None:
    ca, stranger = made / "ca.pem", made / "stranger"

    async with start_service(tls_client_ca=ca) as port:
        assert await ask(port, ClientTls(ca, made / "client.pem", made / "client.key")) == 200

        for refused in (ClientTls(ca), ClientTls(ca, stranger / "client.pem", stranger / "client.key")):
            with pytest.raises((OSError, ProtocolError)):
                await ask(port, refused)


async def test_renewed_files_are_used_without_a_restart_and_open_connections_stay(
    start_service: StartService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "certs"
    ensure_certificates(folder)
    tls = ClientTls(folder / "ca.pem")
    files = {"tls_cert": folder / "ingest.pem", "tls_key": folder / "ingest.key"}

    async with start_service(**files) as port:
        reader, writer = await asyncio.open_connection("localhost", port, ssl=tls.context())
        first = await answer_on(reader, writer)
        before = await certificate_of(port, tls)
        key = (folder / "ingest.key").read_bytes()
        (folder / "ingest.key").write_bytes((folder / "feature.key").read_bytes())
        await until(lambda: "changed TLS files are not used" in caplog.text)
        while_unfit = await certificate_of(port, tls)
        (folder / "ingest.key").write_bytes(key)
        ensure_certificates(folder, renew=True)
        async with asyncio.timeout(10):
            while await certificate_of(port, tls) == before:
                await asyncio.sleep(0.05)
        second = await answer_on(reader, writer)
        writer.close()

    assert while_unfit == before
    assert (first, second) == (b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK")


async def test_silent_connections_count_and_are_closed_before_their_handshake(
    start_service: StartService, made: Path
) -> None:
    async with start_service(header_timeout_s=0.5, max_connections_per_address=4) as port:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]

        answered = [await ask(port, ClientTls(made / "ca.pem")) for _ in range(3)]
        ends = [await asyncio.wait_for(read_to_end(reader), 5) for reader, _ in silent]

    assert answered == [200, 200, 200]
    assert ends == [b""] * 12
    for _, writer in silent:
        writer.close()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"tls_key": None}, "EVERLOOP_TLS_KEY belong together"),
        ({"tls_cert": None, "tls_key": None, "tls_client_ca": Path("ca.pem")}, "EVERLOOP_TLS_CLIENT_CA needs"),
        ({"tls_key": Path("/nowhere/ingest.key")}, "cannot use .*ingest.key: No such file"),
    ],
)
async def test_settings_that_do_not_fit_are_named(
    tmp_path: Path, made: Path, settings: dict[str, Any], named: str
) -> None:
    files = {"tls_cert": made / "ingest.pem", "tls_key": made / "ingest.key"}
    own = Settings(data=tmp_path, port=free_port(), **(files | settings))

    with pytest.raises(Misconfigured, match=named):
        await HttpEndpoint("ingest", own, APIRouter()).start(Service("ingest", own))


async def test_a_client_of_kafka_shows_its_renewed_certificate_in_new_connections(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ensure_certificates(tmp_path)
    asked, shown = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=tmp_path / "ca.pem"), list[bytes | None]()
    asked.load_cert_chain(tmp_path / "kafka.pem", tmp_path / "kafka.key")
    asked.verify_mode = ssl.CERT_REQUIRED

    async def note(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        shown.append(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
        writer.close()

    client = RenewedContext(TlsFiles(tmp_path / "ca.pem", tmp_path / "ingest.pem", tmp_path / "ingest.key"))
    async with await asyncio.start_server(note, "127.0.0.1", 0, ssl=asked) as server:
        port = server.sockets[0].getsockname()[1]
        for change in (leave, break_key, renew):
            change(tmp_path)
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client)
            await read_to_end(reader)
            writer.close()

    first, unfit, renewed = shown
    assert first == unfit != renewed
    assert renewed == ssl.PEM_cert_to_DER_cert((tmp_path / "ingest.pem").read_text())
    assert caplog.text.count("changed TLS files of Kafka are not used") == 1


async def certificate_of(port: int, tls: ClientTls) -> bytes | None:
    """The certificate that a new connection gets."""
    _, writer = await asyncio.open_connection("localhost", port, ssl=tls.context())
    found: ssl.SSLObject = writer.get_extra_info("ssl_object")
    writer.close()
    return found.getpeercert(binary_form=True)


def leave(folder: Path) -> None:
    """Change nothing."""


def break_key(folder: Path) -> None:
    """Replace a key by one that does not belong to its certificate."""
    (folder / "ingest.key").write_bytes((folder / "feature.key").read_bytes())


def renew(folder: Path) -> None:
    """Make all certificates again."""
    for file in ("ingest.key", "ingest.pem"):
        (folder / file).unlink()
    ensure_certificates(folder)


async def read_to_end(reader: asyncio.StreamReader) -> bytes:
    """What comes until the connection ends, however it does."""
    with contextlib.suppress(ConnectionResetError):
        return await reader.read()
    return b""
