"""Where the services listen: given by hand, by the environment, or by the house's services.json."""

from __future__ import annotations

from collections.abc import Mapping

from everloop.house.directory import find_house
from everloop.house.errors import HouseNotFound


class Doors:
    """The addresses of the services of one house; raises HouseNotFound where one is not to be found."""

    def __init__(self, data: str | None = None, given: Mapping[str, str | None] | None = None) -> None:
        self._data = data
        self._given = {service: url.rstrip("/") for service, url in (given or {}).items() if url}
        self._known: dict[str, str] = {}

    def url(self, service: str) -> str:
        """Base URL of a service, without a slash at its end."""
        if service in self._given:
            return _checked(service, self._given[service])
        if service not in self._known:
            self._known[service] = _checked(service, find_house(self._data).url(service))
        return self._known[service]

    def look_again(self, service: str) -> None:
        """Read services.json anew: a house that was restarted may have other ports. Keeps what it knew otherwise."""
        try:
            self._known[service] = find_house(self._data).url(service)
        except HouseNotFound:
            return


def _checked(service: str, url: str) -> str:
    if not url.startswith(("http://", "https://")):
        raise HouseNotFound(f"The address of {service}, {url!r}, is no URL.", "Write it as http://HOST:PORT.")
    return url
