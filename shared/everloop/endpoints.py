"""The addresses of the services: from the caller, from the environment, or from services.json."""

from __future__ import annotations

import ssl
from collections.abc import Mapping

from everloop.local.discovery import FoundToken, find_installation, find_tls, find_token
from everloop.local.errors import InstallationError, InstallationNotFound
from everloop_shared.access.own_token import OwnToken
from everloop_shared.errors import Misconfigured
from everloop_shared.tls import ClientTls


class Endpoints:
    """The base URLs of the services of one installation."""

    def __init__(
        self,
        data: str | None = None,
        given: Mapping[str, str | None] | None = None,
        token: str | None = None,
        tls: ClientTls | None = None,
    ) -> None:
        """`given` URLs, the `token` and `tls` are used instead of what the folder or the environment names."""
        self._data = data
        self._given_token, self._tls = FoundToken(OwnToken(token)) if token else None, tls
        self._given = {service: url.rstrip("/") for service, url in (given or {}).items() if url}
        self._found: dict[str, str] = {}
        self._token: tuple[FoundToken | None] | None = None

    def url(self, service: str) -> str:
        """Base URL of a service, without a slash at its end. Raises InstallationNotFound."""
        if service in self._given:
            return _checked(service, self._given[service])
        if service not in self._found:
            self._found[service] = _checked(service, find_installation(self._data).url(service))
        return self._found[service]

    def trusted(self) -> ssl.SSLContext | bool:
        """What httpx verifies servers by. Raises InstallationError naming a file that cannot be used."""
        tls = self._tls or find_tls(self._data)
        try:
            return tls.context() if tls else True
        except Misconfigured as e:
            raise InstallationError(e.detail, "Check the files, or make them: everloop certs DIR.") from e

    def header(self, url: str) -> dict[str, str]:
        """What a request to a service at this URL carries. Raises InstallationError."""
        if self._token is None:
            self._token = (self._given_token or find_token(self._data),)
        [found] = self._token
        try:
            return found.header(url) if found else {}
        except Misconfigured as e:
            raise InstallationError(e.detail, "Write a token to it, such as one of everloop keys create.") from e

    def refresh(self, service: str) -> None:
        """Read services.json again: after a restart the ports may differ. Without the file the known address stays."""
        self._token = None
        try:
            self._found[service] = find_installation(self._data).url(service)
        except InstallationNotFound:
            return


def _checked(service: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise InstallationNotFound(f"The address of {service}, {url!r}, is no URL.", "Write it as http://HOST:PORT.")
    return url
