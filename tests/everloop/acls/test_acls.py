"""`everloop acls show`, the difference to a cluster, and the client settings by librdkafka's names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.everloop.test_command_line import run

from everloop.acls.bindings import changes, wanted_bindings
from everloop_schemas.registry import LoopState
from everloop_schemas.training import ModelTrained
from everloop_shared.messaging.kafka.client import ClientConfig


def test_show_says_who_may_write_a_topic_with_its_prefix_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EVERLOOP_TOPIC_PREFIX", "test.")

    done = run("acls", "show", "--user-prefix", "app-", "--source", "orders", "--json")

    writers = {(b["name"], b["principal"]) for b in json.loads(done.stdout) if b["operation"] == "WRITE"}
    assert {("test." + ModelTrained.topic.name, "User:app-training")} == {w for w in writers if "model_trained" in w[0]}
    assert {("test." + LoopState.topic.name, "User:app-registry")} == {w for w in writers if "loop_state" in w[0]}
    assert (
        "User:app-ingest may READ TOPIC orders"
        in run("acls", "show", "--user-prefix", "app-", "--source", "orders").stdout
    )


def test_what_is_missing_and_what_is_not_needed_are_told_apart() -> None:
    wanted = wanted_bindings("", "")
    stray = wanted[0]._replace(name="another")

    found = changes(wanted, [*wanted[3:], stray])

    assert found.missing == sorted(wanted[:3])
    assert found.unneeded == [stray]
    assert changes(wanted, wanted) == ([], [])


def test_client_settings_have_librdkafkas_names() -> None:
    from everloop.acls.cluster import librdkafka_settings

    config = ClientConfig(
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_plain_username="admin",
        sasl_plain_password="secret",
        ssl_cafile=Path("ca.pem"),
    )

    settings = librdkafka_settings("127.0.0.1:9092", config)

    assert settings["sasl.mechanism"] == "SCRAM-SHA-512"
    assert settings["ssl.ca.location"] == "ca.pem"
    assert "ssl.key.location" not in settings
    assert "ssl.endpoint.identification.algorithm" not in settings
