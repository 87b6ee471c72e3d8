"""Some of the real services on one memory broker, each at a port of its own, for the command line."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.builders.running import run_until_exit

import everloop_feature.app
import everloop_ingest.app
import everloop_monitoring.app
import everloop_registry.app
import everloop_training.app
from everloop.local.ports import free_port
from everloop_feature.settings import FeatureSettings
from everloop_ingest.settings import IngestSettings
from everloop_monitoring.settings import MonitoringSettings
from everloop_registry.settings import RegistrySettings
from everloop_schemas.envelope import Event, Topic
from everloop_shared.messaging.memory import MemoryBroker
from everloop_shared.service import Service
from everloop_training.settings import TrainingSettings
from everloop_training.worker.inline import InlineWorker


@dataclass
class ServedServices:
    """Running services; their folder has their `services.json`."""

    folder: Path
    broker: MemoryBroker
    loop: asyncio.AbstractEventLoop
    urls: dict[str, str]

    def publish(self, *events: Event) -> None:
        """Append events to their topics, in this order."""
        for event in events:
            self.append(event.topic.name, event.key(), event.encode())

    def append(self, topic: str, key: bytes, value: bytes) -> None:
        """Append a record to a topic."""
        asyncio.run_coroutine_threadsafe(self.broker.append(topic, key, value), self.loop).result(10)

    def events(self, topic: Topic) -> list[Any]:
        """What lies on a topic."""
        return self.broker.events(topic)


@contextmanager
def served(
    folder: Path,
    *names: str,
    certs: Path | None = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    **settings: Any,
) -> Iterator[ServedServices]:
    """Run these services in a thread, until the block ends; with TLS by the certificates of a folder.

    `own` has settings by service, `settings` those of all of them; `{url}` in a text is monitoring's address.
    """
    scheme, tls = ("https", {"tls": {"ca": str(certs / "ca.pem")}}) if certs else ("http", {})
    ports: dict[str, int] = {}
    for name in names:
        ports[name] = free_port(set(ports.values()))
    up, stop = threading.Event(), threading.Event()
    running: list[ServedServices] = []
    failures: list[BaseException] = []

    async def run() -> None:
        broker, urls = MemoryBroker(), {name: f"{scheme}://127.0.0.1:{port}" for name, port in ports.items()}
        async with AsyncExitStack() as stack:
            for name in names:
                common = {each: _with_url(value, urls.get("monitoring", "")) for each, value in settings.items()}
                service = _build(name, broker, folder, urls, certs, {**common, **(own or {}).get(name, {})})
                await stack.enter_async_context(run_until_exit(service))
            running.append(ServedServices(folder, broker, asyncio.get_running_loop(), urls))
            up.set()
            await asyncio.to_thread(stop.wait)

    def run_thread() -> None:
        try:
            asyncio.run(run())
        except BaseException as e:
            failures.append(e)
            up.set()

    thread = threading.Thread(target=run_thread)
    thread.start()
    try:
        assert up.wait(60), "the services did not start"
        assert not failures, failures
        found = running[0]
        text = json.dumps({name: {"url": url, "pid": 1} for name, url in found.urls.items()} | tls)
        (folder / "services.json").write_text(text)
        yield found
    finally:
        stop.set()
        thread.join(30)
    assert not failures, failures


def _with_url(value: Any, url: str) -> Any:
    return value.replace("{url}", url) if isinstance(value, str) else value


def _build(
    name: str,
    broker: MemoryBroker,
    folder: Path,
    urls: Mapping[str, str],
    certs: Path | None,
    settings: Mapping[str, Any],
) -> Service:
    port = urlsplit(urls[name]).port
    common: dict[str, Any] = {"data": folder, "port": port, "instance": "only", **settings}
    if certs:
        common |= {"tls_cert": certs / f"{name}.pem", "tls_key": certs / f"{name}.key", "tls_ca": certs / "ca.pem"}
    master = folder / "personal" / "master.key"
    if master.exists() and name not in ("registry", "monitoring"):
        common |= {"personal_keys_url": f"sqlite:///{master.parent}/keys.db", "personal_master_key": master}
    match name:
        case "ingest":
            return everloop_ingest.app.build(IngestSettings(**common), broker.engine)
        case "feature":
            return everloop_feature.app.build(FeatureSettings(**common), broker.engine)
        case "registry":
            return everloop_registry.app.build(RegistrySettings(**common), broker.engine)
        case "training":
            return everloop_training.app.build(TrainingSettings(**common), broker.engine, InlineWorker.start)
        case _:
            addresses = {"ingest_url": urls.get("ingest", ""), "registry_url": urls.get("registry", "")}
            made = MonitoringSettings(**common, settle_s=0.0, **addresses)
            return everloop_monitoring.app.build(made, broker.engine)
