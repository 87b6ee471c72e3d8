"""Finds an installation: by its data folder and services.json, or by the URLs that the environment names."""

from __future__ import annotations

import contextlib
import json
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everloop.local.errors import InstallationNotFound
from everloop.local.ports import DEFAULT_BASE, HOST
from everloop_schemas.topology import KAFKA_PORT, SERVICES, ports_from
from everloop_shared.access.own_token import OwnToken
from everloop_shared.files import replace_file
from everloop_shared.tls import ClientTls

FILE = "services.json"
MEMORY_FOLDER = "memory"
"""Has the files of services on the memory bus, apart from those of an installation on Kafka."""
DEFAULT = ".everloop"


@dataclass(frozen=True)
class Installation:
    """The addresses of an installation: a URL per service, and the broker's HOST:PORT."""

    folder: Path
    urls: Mapping[str, str] = field(default_factory=dict)
    bootstrap: str | None = None
    pids: Mapping[str, int] = field(default_factory=dict)
    kafka_config: Path | None = None
    """Client settings of a secured broker at hand; EVERLOOP_KAFKA_CONFIG where that is set."""

    def url(self, service: str) -> str:
        """Return the address of a service. Raises InstallationNotFound, naming the variable that would give it."""
        if service in self.urls:
            return self.urls[service]
        fix = f"Start it (everloop up --data {self.folder}) or set EVERLOOP_{service.upper()}_URL."
        raise InstallationNotFound(f"The address of {service} is not known.", fix)

    def kafka(self) -> str:
        """Return the broker's HOST:PORT. Raises InstallationNotFound."""
        if self.bootstrap:
            return self.bootstrap
        if self.topics:
            fix = f"Its topics are read by HTTP, at {self.topics}/docs. Start it with Kafka: everloop up."
            raise InstallationNotFound("This local installation runs on the memory bus; it has no Kafka.", fix)
        fix = "Set EVERLOOP_KAFKA_BOOTSTRAP or run everloop up."
        raise InstallationNotFound("The broker's address is not known.", fix)

    @property
    def topics(self) -> str | None:
        """The URL that serves the topics of the memory bus; None where Kafka carries them."""
        return None if self.bootstrap else self.urls.get("topics")

    @property
    def files(self) -> Path:
        """The folder of the services' files, where they run on this machine."""
        return self.folder / MEMORY_FOLDER if self.topics else self.folder


def data_folder(data: str | None = None) -> Path:
    """Return the data folder: `data`, else EVERLOOP_DATA, else `.everloop`; absolute."""
    return Path(data or os.environ.get("EVERLOOP_DATA") or DEFAULT).expanduser().absolute()


def find_installation(data: str | None = None) -> Installation:
    """Return the installation of this folder. Raises InstallationNotFound.

    EVERLOOP_<SERVICE>_URL and EVERLOOP_KAFKA_BOOTSTRAP override services.json, unless the caller names the folder
    (`data`). Where neither a folder nor a URL is named, and all six default ports of this machine are open, those
    are the services (docker compose).
    """
    folder = data_folder(data)
    listed = read_json(folder / FILE)
    named = {} if data else _urls_of_environment()
    urls = {s: e["url"] for s, e in _entries(listed) if "url" in e} | named
    kafka = dict(_entries(listed)).get("kafka", {})
    bootstrap, config = kafka.get("bootstrap"), os.environ.get("EVERLOOP_KAFKA_CONFIG") or kafka.get("config")
    if not data:
        bootstrap = os.environ.get("EVERLOOP_KAFKA_BOOTSTRAP") or bootstrap
    if not urls and not data and not os.environ.get("EVERLOOP_DATA") and (default := default_urls()):
        urls, bootstrap = default, bootstrap or f"{HOST}:{KAFKA_PORT}"
    if not urls and not bootstrap:
        fix = f"Start one (everloop up --data {folder}), name its folder (--data or EVERLOOP_DATA),"
        elsewhere = "or set EVERLOOP_<SERVICE>_URL for services on other machines."
        raise InstallationNotFound(f"No local installation at {folder}.", f"{fix} {elsewhere}")
    pids = {s: e["pid"] for s, e in _entries(listed) if isinstance(e.get("pid"), int)}
    return Installation(folder, urls, bootstrap, pids, Path(config) if config else None)


def find_tls(data: str | None = None) -> ClientTls | None:
    """Whom to trust, and what to show, in connections with TLS; None where nothing is said about it.

    As EVERLOOP_TLS_CA, _CERT and _KEY say, else as services.json does; what the caller names (`data`) comes first.
    """
    listed = read_json(data_folder(data) / FILE).get("tls")
    of_folder = _listed_tls(listed) if isinstance(listed, dict) else None
    if data and of_folder:
        return of_folder
    of_environment = ClientTls.of_environment(os.environ)
    return of_environment if any(of_environment) else of_folder


def _listed_tls(listed: Mapping[str, Any]) -> ClientTls | None:
    paths = [listed.get(name) for name in ("ca", "certificate", "key")]
    return ClientTls(*(Path(path) if isinstance(path, str) else None for path in paths)) if paths[0] else None


@dataclass(frozen=True)
class FoundToken:
    """What to send, and to which URLs alone; None for all."""

    token: OwnToken
    urls: frozenset[str] | None = None

    def header(self, url: str) -> dict[str, str]:
        """What a request to this URL carries: a folder's token goes to its own services, not to others."""
        return self.token.header() if self.urls is None or url in self.urls else {}


def find_token(data: str | None = None) -> FoundToken | None:
    """What to send to services; None where nothing is said about it.

    As EVERLOOP_TOKEN or EVERLOOP_TOKEN_FILE say, else the file that `everloop up --auth` leaves beside services.json;
    what the caller names (`data`) comes first.
    """
    folder = data_folder(data)
    listed = read_json(folder / FILE)
    file = listed.get("token")
    urls = frozenset(e["url"] for _, e in _entries(listed) if "url" in e)
    of_folder = FoundToken(OwnToken(file=Path(file), named=FILE), urls) if isinstance(file, str) else None
    if data and of_folder:
        return of_folder
    of_environment = OwnToken.of_environment(os.environ)
    return FoundToken(of_environment) if of_environment else of_folder


def _entries(listed: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(name, entry) for name, entry in listed.items() if isinstance(entry, dict)]


def _urls_of_environment() -> dict[str, str]:
    given = {name: os.environ.get(service.variable("url")) for name, service in SERVICES.items()}
    return {service: url.rstrip("/") for service, url in given.items() if url}


def default_urls(base: int = DEFAULT_BASE) -> dict[str, str]:
    """Return the six URLs from port `base` on; an empty mapping unless all six ports are open."""
    ports = ports_from(base)
    return {s: f"http://{HOST}:{p}" for s, p in ports.items()} if all(map(_is_open, ports.values())) else {}


def _is_open(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(0.5)
        return probe.connect_ex((HOST, port)) == 0


def read_json(file: Path) -> dict[str, Any]:
    """Return the object in this file; an empty one when it is absent, unreadable or not JSON."""
    with contextlib.suppress(OSError, ValueError):
        value = json.loads(file.read_text())
        if isinstance(value, dict):
            return value
    return {}


def write_json(file: Path, value: Mapping[str, Any]) -> None:
    """Replace the file in one step: a reader sees the old text or the new, never half."""
    replace_file(file, json.dumps(value, indent=1).encode())
