"""Serving with TLS: its gRPC door, and what it asks of feature."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from tests.builders import events
from tests.serving.grpc_calls import GrpcClient, grpc_client
from tests.serving.test_serving_windows import running_feature, used

from everloop.certs.folder import ensure_certificates
from everloop.local.ports import free_port
from everloop_schemas.serving import WindowsUsed
from everloop_shared.errors import Misconfigured

if TYPE_CHECKING:
    from tests.serving.conftest import RunningServing

pytestmark = pytest.mark.app


@pytest.fixture
def certs(tmp_path: Path) -> Path:
    """A folder of certificates."""
    ensure_certificates(tmp_path / "certs")
    return tmp_path / "certs"


def secure_channel(port: int, certs: Path, client: str | None = None) -> grpc.aio.Channel:
    """A connection of its own, which trusts the authority of the folder."""
    own = [(certs / f"{client}.{kind}").read_bytes() for kind in ("key", "pem")] if client else [None, None]
    credentials = grpc.ssl_channel_credentials((certs / "ca.pem").read_bytes(), own[0], own[1])
    return grpc.aio.secure_channel(f"localhost:{port}", credentials, [("grpc.use_local_subchannel_pool", 1)])


async def answers(port: int, certs: Path, client: str | None = None) -> bool:
    """Whether an inference over a new connection is answered; False where TLS is refused."""
    async with secure_channel(port, certs, client) as channel:
        try:
            return bool((await GrpcClient(channel, port).infer(timeout=5)).outputs)
        except grpc.aio.AioRpcError as e:
            if e.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
            return False


async def test_grpc_answers_with_tls_only_and_uses_renewed_files_for_new_connections(
    serving: RunningServing, certs: Path
) -> None:
    port = free_port()
    await serving.publish(serving.state())
    await serving.start(grpc_port=port, tls_cert=certs / "serving.pem", tls_key=certs / "serving.key")
    async with secure_channel(port, certs) as before, grpc_client(port) as plain:
        first = await GrpcClient(before, port).infer()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await plain.infer(timeout=5)

        for name in ("ca.pem", "ca.key"):
            (certs / name).unlink()
        ensure_certificates(certs)  # by another authority, which only a new connection trusts

        assert await answers(port, certs)
        again = await GrpcClient(before, port).infer()
        assert [output.name for output in again.outputs] == [output.name for output in first.outputs]
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_grpc_asks_clients_for_certificates_where_their_authority_is_set(
    serving: RunningServing, certs: Path
) -> None:
    port = free_port()
    files: dict[str, Any] = {
        "tls_cert": certs / "serving.pem",
        "tls_key": certs / "serving.key",
        "tls_client_ca": certs / "ca.pem",
    }
    await serving.publish(serving.state())
    await serving.start(grpc_port=port, **files)

    assert await answers(port, certs, "client")
    assert not await answers(port, certs)


async def test_windows_are_read_from_feature_by_mutual_tls(serving: RunningServing, certs: Path) -> None:
    def files(name: str) -> dict[str, Any]:
        return {"tls_cert": certs / f"{name}.pem", "tls_key": certs / f"{name}.key"}

    await serving.publish(serving.state())
    async with running_feature(serving, tls_client_ca=certs / "ca.pem", **files("feature")) as url:
        https = url.replace("http:", "https:")
        trusting = {"tls_ca": certs / "ca.pem", **files("serving")}
        await serving.start(feature_url=https, entity_states=1, entity_read_ms=5_000, **trusting)
        for number, entity in enumerate(("shop", "shop", "other")):
            await serving.publish(events.observation(f"o{number}", {"price": 2.0, "demand": 0.5}, entity))
        await serving.until(lambda: len(serving.predictions()) == 3)

        await serving.predict("z", price=5.0, entity="other")
        await serving.predict("a", price=5.0, entity="shop")

        assert await used(serving, "a") == WindowsUsed(applied=2, source="feature")


async def test_files_that_cannot_be_used_keep_serving_from_its_start(serving: RunningServing, tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"cannot use .*nowhere"):
        await serving.start(feature_url="https://127.0.0.1:1", tls_ca=tmp_path / "nowhere.pem")
