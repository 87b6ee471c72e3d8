"""What Airflow asks a provider about itself."""

from __future__ import annotations

from typing import Any

from everloop_schemas.topology import SERVICES

NAME, ROOT = "Everloop", "airflow.providers.everloop"
TEXT = {"type": ["string", "null"]}


def get_provider_info() -> dict[str, Any]:
    """Connection type, operators, sensors, triggers, links and assets."""
    return {
        "package-name": "apache-airflow-providers-everloop",
        "name": NAME,
        "description": "Everloop keeps production models fresh: loops of events, predictions, labels and models.",
        "integrations": [{"integration-name": NAME, "tags": ["service"]}],
        "hooks": [_modules("hooks.everloop")],
        "operators": [_modules("operators.loops", "operators.models", "operators.data")],
        "sensors": [_modules("sensors.everloop")],
        "triggers": [_modules("triggers.everloop")],
        "extra-links": [f"{ROOT}.links.EverloopConsoleLink"],
        "asset-uris": [{"schemes": ["everloop"], "handler": f"{ROOT}.assets.sanitize_uri"}],
        "connection-types": [
            {
                "connection-type": "everloop",
                "hook-class-name": f"{ROOT}.hooks.everloop.EverloopHook",
                "hook-name": NAME,
                "conn-fields": _fields(),
                "ui-field-behaviour": {
                    "hidden-fields": ["login", "extra"],
                    "relabeling": {"password": "Token", "port": "Port of ingest", "schema": "Scheme"},
                    "placeholders": {"host": "everloop.internal", "port": "8001", "schema": "http or https"},
                },
            }
        ],
    }


def _modules(*names: str) -> dict[str, Any]:
    return {"integration-name": NAME, "python-modules": [f"{ROOT}.{name}" for name in names]}


def _fields() -> dict[str, Any]:
    files = {"ca": "Authorities to trust", "certificate": "Own certificate", "key": "Its key"}
    urls = {f"{name}_url": f"URL of {name}, where host and port do not give it" for name in SERVICES}
    shown = {"console_url": "URL of the console, where people reach it at another one than monitoring's"}
    titles = {**{name: f"{title} (a file on workers, PEM)" for name, title in files.items()}, **urls, **shown}
    return {name: {"label": title, "schema": TEXT} for name, title in titles.items()}
