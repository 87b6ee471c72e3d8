"""The operator's file of clusters, and sources where there is no Kafka."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from everloop_ingest.adapters.sources.clusters import Clusters, SourceRefused
from everloop_ingest.settings import IngestSettings
from everloop_shared.errors import Misconfigured
from everloop_shared.messaging.kafka.client import client_settings

StartIngest = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]


def named(folder: Path, content: Any) -> IngestSettings:
    """Settings with a file of clusters."""
    file = folder / "clusters.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return IngestSettings(data=folder, kafka_bootstrap="own:9092", clusters=file)


def test_a_named_cluster_has_its_own_address_and_login(tmp_path: Path) -> None:
    login = {"security_protocol": "SASL_PLAINTEXT", "sasl_plain_username": "crm", "sasl_plain_password": "secret"}
    (tmp_path / "crm.json").write_text(json.dumps(login))
    clusters = Clusters(named(tmp_path, {"crm": {"bootstrap": "crm:9093", "config": str(tmp_path / "crm.json")}}))

    crm, own = (client_settings(clusters.settings_of(name), "ingest") for name in ("crm", None))

    assert (crm["bootstrap_servers"], crm["sasl_plain_username"]) == (["crm:9093"], "crm")
    assert (own["bootstrap_servers"], own["sasl_plain_username"]) == (["own:9092"], None)


def test_a_cluster_that_is_not_named_is_refused_with_those_that_are(tmp_path: Path) -> None:
    clusters = Clusters(named(tmp_path, {"crm": {"bootstrap": "crm:9093"}}))

    with pytest.raises(SourceRefused, match=r"cluster 'evil' is not in the file of EVERLOOP_INGEST_CLUSTERS \(crm\)"):
        clusters.settings_of("evil")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "is not JSON"),
        ({"crm": {}}, "crm.bootstrap: Field required"),
        ({"crm": {"bootstrap": "crm:9093", "password": "x"}}, "crm.password: Extra inputs"),
        ({"crm": {"bootstrap": "crm:9093", "config": "/nowhere.json"}}, "/nowhere.json"),
        ([], "valid dictionary"),
    ],
)
def test_a_wrong_file_of_clusters_fails_the_start_and_names_the_variable(
    tmp_path: Path, content: Any, says: str
) -> None:
    with pytest.raises(Misconfigured, match="EVERLOOP_") as error:
        Clusters(named(tmp_path, content))

    assert says in error.value.detail


def test_a_missing_file_of_clusters_fails_the_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"EVERLOOP_INGEST_CLUSTERS: cannot read .*none\.json"):
        Clusters(IngestSettings(data=tmp_path, clusters=tmp_path / "none.json"))


@pytest.mark.app
async def test_on_the_memory_bus_a_source_is_refused_and_said_and_the_endpoints_work(start_ingest: StartIngest) -> None:
    async with start_ingest(spec={"sources": [{"name": "orders", "topic": "shop.orders"}]}) as client:
        shown = await client.get("/sources")
        sent = await client.post("/events", json={"data": {"price": 1.0}})
        unknown = await client.get("http://localhost/v1/loops/nowhere/sources")

    [source] = shown.json()["sources"]
    assert (source["source"], source["topic"], source["state"]) == ("orders", "shop.orders", "refused")
    assert "source market/orders is not read: this installation has no Kafka" in source["detail"]
    assert sent.status_code == 202
    assert unknown.status_code == 404
