"""Settings report which variable is wrong; logs of an outage stay short."""

from __future__ import annotations

import json
import logging
import ssl
from pathlib import Path

import pytest
from pydantic import Field

from everloop_shared.errors import Misconfigured
from everloop_shared.logging import RateLimit
from everloop_shared.messaging.kafka.client import client_settings, read_config
from everloop_shared.settings import Settings


class ExampleSettings(Settings):
    """A service's own."""

    width: int = Field(1, ge=1, description="how wide")


def test_the_variable_of_a_service_takes_precedence_over_the_shared_one() -> None:
    environ = {"EVERLOOP_PORT": "1", "EVERLOOP_INGEST_PORT": "2", "EVERLOOP_PARTITIONS": "8", "EVERLOOP_HOST": ""}

    settings = ExampleSettings.load("ingest", environ)

    assert (settings.port, settings.partitions, settings.host) == (2, 8, "127.0.0.1")


def test_every_wrong_variable_is_named_with_its_value() -> None:
    with pytest.raises(Misconfigured) as error:
        ExampleSettings.load("ingest", {"EVERLOOP_INGEST_WIDTH": "0", "EVERLOOP_INGEST_PORT": "http"})

    assert "EVERLOOP_INGEST_WIDTH: Input should be greater than or equal to 1, got '0'" in error.value.detail
    assert "EVERLOOP_INGEST_PORT" in error.value.detail


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DELIVERY_TIMEOUT_S", "inf"),
        ("DELIVERY_TIMEOUT_S", "nan"),
        ("DELIVERY_TIMEOUT_S", "1e300"),
        ("DELIVERY_TIMEOUT_S", "-1"),
        ("BODY_TIMEOUT_S", "1e10"),
        ("WIDTH", "1e300"),
        ("WIDTH", "9" * 30),
        ("WIDTH", "9" * 5000),
        ("MAX_BODY_BYTES", "9" * 18),
        ("PORT", "-1"),
        ("TOPIC_PREFIX", "a b"),
        ("TOPIC_PREFIX", "a" * 200),
        ("INSTANCE", "a\nb"),
        ("INSTANCE", "\udcff"),
        ("EARLIEST_TIME", "9" * 400),
    ],
)
def test_an_absurd_value_is_reported_at_the_start_with_its_variable(name: str, value: str) -> None:
    with pytest.raises(Misconfigured) as error:
        ExampleSettings.load("ingest", {f"EVERLOOP_INGEST_{name}": value})

    assert error.value.detail.startswith(f"EVERLOOP_INGEST_{name}: ")
    assert len(error.value.detail) < 300


def test_a_plain_cluster_needs_no_file() -> None:
    settings = client_settings(Settings(kafka_bootstrap="a:1, b:2"), "ingest")

    assert settings["bootstrap_servers"] == ["a:1", "b:2"]
    assert (settings["security_protocol"], settings["ssl_context"]) == ("PLAINTEXT", None)


def test_tls_and_sasl_come_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "client.json"
    login = {"sasl_mechanism": "SCRAM-SHA-512", "sasl_plain_username": "u", "sasl_plain_password": "p"}
    file.write_text(json.dumps({"security_protocol": "SASL_SSL", **login}))

    settings = client_settings(Settings(kafka_config=file), "ingest")

    assert isinstance(settings["ssl_context"], ssl.SSLContext)
    assert settings["ssl_context"].verify_mode is ssl.CERT_REQUIRED
    assert {k: settings[k] for k in login} == login


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "not JSON"),
        ('{"sasl_mechanims": "PLAIN"}', "sasl_mechanims"),
        ('{"security_protocol": "TLS"}', "security_protocol"),
        ('{"security_protocol": "SASL_SSL"}', "sasl_plain_username"),
        ('{"security_protocol": "SSL", "ssl_certfile": "a.pem"}', "ssl_keyfile"),
        ('{"security_protocol": "SSL", "ssl_cafile": "/nowhere/ca.pem"}', "/nowhere/ca.pem"),
        ('{"ssl_cafile": "ca.pem"}', "security_protocol"),
        (None, "cannot read"),
    ],
)
def test_a_wrong_file_is_reported_with_variable_and_field(tmp_path: Path, text: str | None, expected: str) -> None:
    file = tmp_path / "client.json"
    if text is not None:
        file.write_text(text)

    with pytest.raises(Misconfigured) as error:
        read_config(file).ssl_context()

    assert error.value.detail.startswith("EVERLOOP_KAFKA_CONFIG")
    assert expected in error.value.detail


def test_a_flood_of_log_lines_is_limited_and_counted() -> None:
    now = [0.0]
    limit = RateLimit(burst=2, window_s=30, clock=lambda: now[0])
    lines = [logging.makeLogRecord({"msg": "gone"}) for _ in range(100)]

    passed = [line for line in lines if limit.filter(line)]
    now[0] = 31.0
    after = logging.makeLogRecord({"msg": "gone"})

    assert len(passed) == 2
    assert limit.filter(after)
    assert vars(after)["held_back"] == 98
