"""The gRPC endpoint of serving: its port, its limits on connections, its start and stop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import grpc

from everloop_serving.api.open_inference_grpc.calls import Calls
from everloop_serving.api.open_inference_grpc.health import HEALTH, HealthService
from everloop_serving.api.open_inference_grpc.methods import INFERENCE, InferenceService
from everloop_serving.api.open_inference_grpc.reflection import LONGEST_S, REFLECTION, ReflectionService
from everloop_serving.api.open_inference_grpc.streams import Streams
from everloop_serving.handlers.inference import InferenceHandlers
from everloop_serving.settings import ServingSettings
from everloop_shared.access.callers import CallerLimits
from everloop_shared.audit.trail import AuditTrail
from everloop_shared.commands import CommandEdge
from everloop_shared.endpoint import Health
from everloop_shared.errors import Misconfigured
from everloop_shared.http.endpoint import REJOIN_POLL_S, REJOIN_WAIT_S, REQUEST_DRAIN_S
from everloop_shared.server_tls import ServerTls, server_tls
from everloop_shared.workers import Worker

log = logging.getLogger(__name__)
SERVICES = (INFERENCE, HEALTH, REFLECTION)
MAX_STREAMS_PER_CONNECTION = 100
CONNECTION_IDLE_S, CONNECTION_AGE_S, CONNECTION_AGE_GRACE_S = 600, 3_600, 60
"""A connection without calls, or an old one, is ended by a GOAWAY: clients connect again, to any worker or replica."""
KEEPALIVE_S, KEEPALIVE_TIMEOUT_S = 60, 20
"""How often a silent connection is asked whether its client is still there."""
MIN_PING_INTERVAL_S, MAX_PING_STRIKES = 10, 2
"""A client that pings more often is disconnected after so many warnings."""


class GrpcEndpoint:
    """Serves the Open Inference Protocol beside health and reflection; see `Endpoint`.

    `interceptors` see each call before its method does; `limits` are those of each caller, `trail` is the
    audit of refused calls.
    """

    name = "grpc"

    def __init__(
        self,
        settings: ServingSettings,
        handlers: InferenceHandlers,
        commands: CommandEdge,
        worker: Worker | None = None,
        interceptors: Sequence[grpc.aio.ServerInterceptor] = (),
        limits: CallerLimits | None = None,
        trail: AuditTrail | None = None,
    ) -> None:
        self._settings, self._handlers, self._commands = settings, handlers, commands
        self._worker, self._interceptors, self._limits, self._trail = worker, interceptors, limits, trail
        self._stopping = asyncio.Event()
        self._server: grpc.aio.Server | None = None
        self._serving: asyncio.Future[None] | None = None
        self.port = 0

    async def start(self, health: Health) -> None:
        """Listen on the address of the settings; raises Misconfigured if it cannot be used."""
        if self._worker and self._worker.rejoins:
            self._serving = asyncio.ensure_future(self._rejoin(health))
        else:
            self._serving = asyncio.ensure_future(self._serve(await self._listen(health)))

    def not_ready(self) -> str | None:
        """None once calls are accepted, or will be as soon as the rest of the service is ready."""
        starts_last = self._worker is not None and self._worker.rejoins
        return None if starts_last or self.port else "the gRPC endpoint is not started"

    async def ended(self) -> None:
        """Return when the server has ended; raises what broke it."""
        if self._serving is not None:
            await asyncio.wait([self._serving])
            self._serving.result()

    async def drain(self) -> None:
        """Accept no new call and wait for those in progress, at most REQUEST_DRAIN_S seconds."""
        self._stopping.set()
        if self._server is not None:
            await self._server.stop(REQUEST_DRAIN_S)
        if self._serving is not None:
            await asyncio.wait([self._serving])

    async def _rejoin(self, health: Health) -> None:
        """Take calls once the service is ready: until then other workers do."""
        loop = asyncio.get_running_loop()
        latest = loop.time() + REJOIN_WAIT_S
        while health.not_ready() and loop.time() < latest and not self._stopping.is_set():
            await asyncio.sleep(REJOIN_POLL_S)
        if not self._stopping.is_set():
            await self._serve(await self._listen(health))

    async def _listen(self, health: Health) -> grpc.aio.Server:
        server = grpc.aio.server(interceptors=self._interceptors, options=_options(self._settings, self._worker))
        server.add_generic_rpc_handlers([_ByMethod(self._methods(health))])
        host, port = self._settings.host, self._settings.grpc_port
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        tls = server_tls("serving", self._settings)
        try:
            self.port = server.add_secure_port(address, _credentials(tls)) if tls else server.add_insecure_port(address)
        except RuntimeError as e:
            variables = "EVERLOOP_SERVING_GRPC_PORT, EVERLOOP_HOST"
            fix = "choose another port, or 0 to do without gRPC"
            raise Misconfigured(f"{variables}: cannot listen on {address}; {fix}") from e
        await server.start()
        self._server = server
        log.info("listening", extra={"grpc": f"{host}:{self.port}"})
        return server

    async def _serve(self, server: grpc.aio.Server) -> None:
        await server.wait_for_termination()

    def _methods(self, health: Health) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
        def is_ready() -> bool:
            return not self._stopping.is_set() and health.not_ready() is None

        inference = InferenceService(self._handlers, self._commands, is_ready)
        return {
            **inference.methods(Calls(self._settings, self._limits, self._trail)),
            **HealthService(is_ready, SERVICES, Streams(self._stopping)).methods(),
            **ReflectionService(SERVICES, Streams(self._stopping, LONGEST_S)).methods(),
        }


def _credentials(tls: ServerTls) -> grpc.ServerCredentials:
    """Credentials that read the files again, where they have changed, before a handshake."""

    def in_use() -> grpc.ServerCertificateConfiguration:
        certificate, key, client_ca = tls.files
        return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=client_ca)

    def changed() -> grpc.ServerCertificateConfiguration | None:
        return in_use() if tls.refresh() else None

    needs_client = tls.files.client_ca is not None
    return grpc.dynamic_ssl_server_credentials(in_use(), cast(Any, changed), needs_client)  # its stub forgets None


class _ByMethod(grpc.GenericRpcHandler):
    """Finds the handler of a method. Handlers registered by name would cost a task more each, for every call."""

    def __init__(self, methods: Mapping[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._methods = methods

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._methods.get(handler_call_details.method)


def _options(settings: ServingSettings, worker: Worker | None) -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 1 if worker else 0),  # alone, it must not share the port with another installation
        ("grpc.max_receive_message_length", settings.max_body_bytes),
        ("grpc.max_metadata_size", settings.max_header_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_header_bytes),
        ("grpc.max_concurrent_streams", MAX_STREAMS_PER_CONNECTION),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.server_handshake_timeout_ms", int(settings.header_timeout_s * 1_000)),
        ("grpc.max_connection_idle_ms", CONNECTION_IDLE_S * 1_000),
        ("grpc.max_connection_age_ms", CONNECTION_AGE_S * 1_000),
        ("grpc.max_connection_age_grace_ms", CONNECTION_AGE_GRACE_S * 1_000),
        ("grpc.keepalive_time_ms", KEEPALIVE_S * 1_000),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_S * 1_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", MIN_PING_INTERVAL_S * 1_000),
        ("grpc.http2.max_ping_strikes", MAX_PING_STRIKES),
    ]
