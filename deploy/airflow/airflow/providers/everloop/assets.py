"""Events of loops as assets: what happens to a loop starts a DAG."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult

from airflow.providers.everloop.events import EVENTS, check_event
from airflow.providers.everloop.hooks.everloop import EverloopHook
from airflow.providers.everloop.triggers.everloop import POLL_INTERVAL_S, EverloopEventTrigger
from airflow.sdk import Asset, AssetWatcher


def everloop_asset(
    event: str,
    loop: str,
    *,
    everloop_conn_id: str = EverloopHook.default_conn_name,
    where: Mapping[str, Any] | None = None,
    since: str | None = None,
    poll_interval: float = POLL_INTERVAL_S,
) -> Asset:
    """An asset with the URI `everloop://LOOP/EVENT` that is updated by each event of the loop.

    A DAG with `schedule=[everloop_asset("drift_detected", "churn")]` starts once for each drift; what happened is
    `triggering_asset_events[...][0].extra["payload"]`. The arguments are those of EverloopEventTrigger.
    """
    trigger = EverloopEventTrigger(check_event(event), loop, everloop_conn_id, where, since, poll_interval)
    watcher = AssetWatcher(name=f"everloop_{loop}_{event}", trigger=trigger)
    return Asset(name=f"everloop_{loop}_{event}", uri=f"everloop://{loop}/{event}", watchers=[watcher])


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Airflow's check of a URI with the scheme `everloop`. Raises ValueError."""
    if not uri.netloc or uri.path.strip("/") not in EVENTS:
        raise ValueError(f"an URI of Everloop is everloop://LOOP/EVENT, with one of {', '.join(EVENTS)}")
    return uri
