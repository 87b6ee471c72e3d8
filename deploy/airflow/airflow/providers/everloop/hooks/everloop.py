"""The hook: a connection of Airflow as a client of Everloop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import BaseHook, Connection

from everloop import AsyncEverloop, Everloop, EverloopError
from everloop_schemas.topology import SERVICES, ports_from

FILES = ("ca", "certificate", "key")
RETRY_FOR_S = 60.0


class EverloopHook(BaseHook):
    """Gives clients for a connection of type `everloop`.

    The host with the port of ingest gives the addresses of the six services, as `everloop up` and docker compose have
    them (ingest 8001, monitoring 8006); one that is elsewhere has its URL among the extras, such as `registry_url`.
    The password is the token. The extras `ca`, `certificate` and `key` are files on the workers, for TLS.
    """

    conn_name_attr = "everloop_conn_id"
    default_conn_name = "everloop_default"
    conn_type = "everloop"
    hook_name = "Everloop"

    def __init__(self, everloop_conn_id: str = default_conn_name, retry_for: float = RETRY_FOR_S) -> None:
        """`retry_for` seconds the clients try again on 429, 503 and lost connections."""
        super().__init__()
        self.everloop_conn_id = everloop_conn_id
        self.retry_for = retry_for

    def get_conn(self) -> Everloop:
        """The sync client; close it, or use it in a `with` block."""
        return Everloop(**self._arguments(self.get_connection(self.everloop_conn_id)))

    async def aget_conn(self) -> AsyncEverloop:
        """The async client."""
        return AsyncEverloop(**self._arguments(await self.aget_connection(self.everloop_conn_id)))

    def get_environment(self) -> dict[str, str]:
        """The connection as the environment of the `everloop` command."""
        connection = self.get_connection(self.everloop_conn_id)
        given = {SERVICES[name].variable("url"): url for name, url in urls_of(connection).items()}
        given |= {"EVERLOOP_TOKEN": connection.password or ""}
        extra = connection.extra_dejson
        names = zip(FILES, ("CA", "CERT", "KEY"), strict=True)
        return given | {f"EVERLOOP_TLS_{name}": str(extra[file]) for file, name in names if extra.get(file)}

    def get_console_url(self, loop: str) -> str:
        """Where people see this loop: the console is a page of monitoring."""
        connection = self.get_connection(self.everloop_conn_id)
        console = connection.extra_dejson.get("console_url") or urls_of(connection)["monitoring"]
        return f"{console.rstrip('/')}/#{loop}"

    def test_connection(self) -> tuple[bool, str]:
        """Whether every service is ready, and the registry takes the token; and what is wrong, or how many loops."""
        self.retry_for = 0.0
        try:
            with self.get_conn() as client:
                away = [name for name in SERVICES if client.request(name, "GET", "/readyz").status_code != 200]
                if away:
                    return False, f"not ready: {', '.join(away)}"
                answer = client.request("registry", "GET", "/v1/loops")
                if answer.status_code != 200:
                    return False, f"the registry refuses the token: {answer.json().get('detail', answer.status_code)}"
                return True, f"six services are ready, with {len(answer.json()['loops'])} loops"
        except (EverloopError, ValueError) as e:
            return False, str(e)

    def _arguments(self, connection: Connection) -> dict[str, Any]:
        extra = connection.extra_dejson
        files = {name: extra.get(name) or None for name in FILES}
        return {**urls_of(connection), **files, "token": connection.password or None, "retry_for": self.retry_for}


def urls_of(connection: Connection) -> Mapping[str, str]:
    """The address of each service, by name. Raises ValueError where the connection names none."""
    extra = connection.extra_dejson
    scheme, _, rest = (connection.host or "").rpartition("://")
    host = rest.rstrip("/")
    scheme = scheme or connection.schema or "http"
    ports = ports_from(connection.port or SERVICES["ingest"].port)
    urls = {name: f"{scheme}://{host}:{port}" for name, port in ports.items()} if host else {}
    urls |= {name: str(extra[f"{name}_url"]) for name in SERVICES if extra.get(f"{name}_url")}
    if missing := [name for name in SERVICES if name not in urls]:
        raise ValueError(
            f"connection {connection.conn_id}: the address of {', '.join(missing)} is not known: give a host, "
            f"or the extra {missing[0]}_url"
        )
    return urls
