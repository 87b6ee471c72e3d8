"""KEDA itself reads the lag of real groups on a real Kafka, and scales what the chart installs, within its bounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.builders.events import features_computed
from tests.feature.feature_events import SHOP, event, loop_state
from tests.integrations.environments import environment
from tests.kubernetes.cluster import Cluster, started_cluster, wait_until
from tests.kubernetes.operator_process import end
from tests.kubernetes.scaled_release import (
    WITHIN_S,
    ScaledRelease,
    followed,
    lag_of_a_pod,
    scaled_release,
    scaling_is,
)
from tests.kubernetes.secured_broker import PARTITIONS, Secured, secured_broker, settings_on

from everloop.local.kafka import Broker
from everloop.local.ports import free_port
from everloop_feature.settings import FeatureSettings
from everloop_schemas.catalogue import TOPICS
from everloop_schemas.envelope import Event
from everloop_schemas.feature import FeaturesComputed, OutcomeObserved
from everloop_schemas.ingest import EventReceived, LabelReceived
from everloop_schemas.serving import ObservationReceived, PredictionMade
from everloop_shared.messaging.kafka.engine import kafka_factory
from everloop_shared.messaging.kafka.topics import ensure_topics
from everloop_shared.messaging.routes import connected

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]
LAG, EVENTS = 20, 300
"""Far more records behind than three pods times the lag that one may have."""
QUIET_S = 70
"""An HPA takes pods away at once that it has added within the last minute."""
FOLLOWED = {
    "feature": (EventReceived, ObservationReceived, PredictionMade, LabelReceived),
    "training": (OutcomeObserved,),
    "serving": (FeaturesComputed,),
}
"""The events whose topics' lag scales a service."""


@pytest.fixture(scope="module")
def keda(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes with KEDA's operator, its metrics server behind the API server, and its webhooks."""
    made = environment("kubernetes_keda")
    with started_cluster(made, tmp_path_factory.mktemp("keda") / "rig", "--keda") as started:
        yield started


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """A broker with TLS and users."""
    with secured_broker(tmp_path_factory.mktemp("secured")) as found:
        yield found


@pytest.fixture
def release(keda: Cluster) -> Iterator[ScaledRelease]:
    """The chart, not installed yet."""
    with scaled_release(keda) as found:
        yield found


@pytest.fixture
def settings(kafka: Broker, tmp_path: Path) -> FeatureSettings:
    """Those of the services on the broker, whose topics are the test's own."""
    return settings_on(kafka.bootstrap, tmp_path)


def scaled(service: str, least: int, most: int) -> list[str]:
    """The values of the chart that let KEDA scale a service."""
    of = f"services.{service}.autoscaling"
    return [f"{of}.enabled=true", f"{of}.minReplicas={least}", f"{of}.maxReplicas={most}", f"{of}.lag={LAG}"]


def values(settings: FeatureSettings) -> list[str]:
    """Those that all of the tests' releases have."""
    return [
        f"kafka.bootstrap={settings.kafka_bootstrap}",
        f"partitions={PARTITIONS}",
        "replicationFactor=1",
        f"topicPrefix={settings.topic_prefix}",
    ]


async def publish(settings: FeatureSettings, service: str, events: list[Event]) -> None:
    """Publish as this service."""
    bus = kafka_factory(settings)(service)
    async with connected(bus):
        await bus.publish(events)


@contextmanager
def feature(settings: FeatureSettings) -> Iterator[None]:
    """The service itself as a process, the one member of its group."""
    own = os.environ | {
        "EVERLOOP_KAFKA_BOOTSTRAP": settings.kafka_bootstrap,
        "EVERLOOP_TOPIC_PREFIX": settings.topic_prefix,
        "EVERLOOP_PARTITIONS": str(settings.partitions),
        "EVERLOOP_DATA": str(settings.data),
        "EVERLOOP_INSTANCE": "keda-test",
        "EVERLOOP_FEATURE_PORT": str(free_port()),
    }
    with (settings.data / "feature.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "everloop_feature"], env=own, stdout=log, stderr=log)
        try:
            yield
        finally:
            end(process)


@asynccontextmanager
async def away(kafka: Broker) -> AsyncIterator[None]:
    """No broker for the block."""
    await kafka.stop()
    try:
        yield
    finally:
        await kafka.restart()


def shorten_scale_down(release: ScaledRelease, service: str) -> None:
    """Let pods go after one quiet minute, not after five: still one a minute, as the chart says."""
    config = {"behavior": {"scaleDown": {"stabilizationWindowSeconds": QUIET_S}}}
    changed = {"spec": {"advanced": {"horizontalPodAutoscalerConfig": config}}}
    release.kubectl("patch", f"scaledobject/everloop-{service}", "--type=merge", "--patch", json.dumps(changed))


def changes_until(what: Callable[[], Any], wanted: Any) -> list[Any]:
    """The different values that were seen one after the other, up to the wanted one."""
    seen = [what()]

    def is_reached() -> bool:
        if (now := what()) != seen[-1]:
            seen.append(now)
        return bool(seen[-1] == wanted)

    wait_until(is_reached, f"{wanted} after {seen}", 2 * WITHIN_S)
    return seen


async def test_each_scaled_object_becomes_an_hpa_with_the_topics_bounds_and_behavior_of_the_chart(
    release: ScaledRelease, settings: FeatureSettings
) -> None:
    await ensure_topics(settings, TOPICS.values())
    services = {"feature": (1, 3), "training": (1, 2), "serving": (2, 5)}

    release.install(*values(settings), *(text for name, bounds in services.items() for text in scaled(name, *bounds)))
    told = {release.wait_for(name, "Ready", "True") for name in services}

    hpas = {name: release.hpa(name)["spec"] for name in services}
    assert told == {"ScaledObject is defined correctly and is ready for scaling"}
    assert {name: (of["minReplicas"], of["maxReplicas"]) for name, of in hpas.items()} == services
    assert {name: followed(of) for name, of in hpas.items()} == {
        name: {f"{settings.topic_prefix}{kind.topic.name}".replace(".", "-"): LAG for kind in kinds}
        for name, kinds in FOLLOWED.items()
    }
    assert [each["resource"]["name"] for each in hpas["serving"]["metrics"] if "resource" in each] == ["cpu"]
    assert {of["scaleTargetRef"]["kind"] for of in hpas.values()} == {"StatefulSet"}
    down = {json.dumps(of["behavior"]["scaleDown"], sort_keys=True) for of in hpas.values()}
    assert [json.loads(text) for text in down] == [
        {
            "policies": [{"periodSeconds": 60, "type": "Pods", "value": 1}],
            "selectPolicy": "Max",
            "stabilizationWindowSeconds": 300,
        }
    ]
    for name in services:
        release.wait_for(name, "Active", "False")


async def test_pods_follow_the_lag_of_feature_to_its_bound_and_go_one_by_one_when_it_has_caught_up(
    release: ScaledRelease, settings: FeatureSettings
) -> None:
    await ensure_topics(settings, TOPICS.values())
    release.install(*values(settings), *scaled("feature", 1, PARTITIONS))
    release.wait_for("feature", "Ready", "True")
    await publish(settings, "registry", [loop_state()])

    await publish(settings, "ingest", [event(n, entity=f"u{n}") for n in range(EVENTS)])
    up = changes_until(lambda: release.pods("feature"), (PARTITIONS, PARTITIONS))
    active, behind = release.condition("feature", "Active")[0], release.lag("feature")
    shorten_scale_down(release, "feature")
    with feature(settings):
        wait_until(lambda: sum(release.lag("feature")) == 0, "feature has caught up", WITHIN_S)
    down = changes_until(lambda: release.pods("feature")[0], 1)

    assert max(wanted for wanted, _ in up) == PARTITIONS
    assert (active, behind) == ("True", [PARTITIONS * LAG, 0, 0, 0])
    assert down == [3, 2, 1]
    assert release.wait_for("feature", "Active", "False")


async def test_lag_alone_gives_serving_no_more_pods_than_partitions_and_they_stay_while_kafka_is_away(
    release: ScaledRelease, settings: FeatureSettings, kafka: Broker
) -> None:
    await ensure_topics(settings, TOPICS.values())
    release.install(*values(settings), *scaled("serving", 2, PARTITIONS + 2))
    release.wait_for("serving", "Ready", "True")

    await publish(settings, "feature", [features_computed(f"e{n}", loop=SHOP, entity=f"u{n}") for n in range(EVENTS)])
    up = changes_until(lambda: release.pods("serving"), (PARTITIONS, PARTITIONS))
    wait_until(lambda: lag_of_a_pod(release.hpa("serving")) == LAG, "the HPA has counted all pods", WITHIN_S)
    desired = release.hpa("serving")["status"]["desiredReplicas"]
    async with away(kafka):
        wait_until(lambda: scaling_is(release.hpa("serving")) == "False", "the HPA knows no lag", WITHIN_S)
        meanwhile = release.pods("serving")
    wait_until(lambda: scaling_is(release.hpa("serving")) == "True", "the HPA knows the lag again", WITHIN_S)

    assert (max(wanted for wanted, _ in up), desired) == (PARTITIONS, PARTITIONS)
    assert meanwhile == release.pods("serving") == (PARTITIONS, PARTITIONS)


async def test_keda_admits_one_autoscaler_of_a_service_so_from_cpu_to_lag_it_goes_by_an_upgrade_without(
    release: ScaledRelease, settings: FeatureSettings
) -> None:
    await ensure_topics(settings, TOPICS.values())
    by_lag, own = scaled("serving", 2, 5), values(settings)
    release.install(*own, *by_lag, "services.serving.autoscaling.lag=0")

    with pytest.raises(AssertionError, match="is already managed by the hpa 'everloop-serving'"):
        release.install(*own, *by_lag)
    release.install(*own)
    release.install(*own, *by_lag)
    release.wait_for("serving", "Ready", "True")

    assert release.hpas() == {"keda-hpa-everloop-serving"}


async def test_a_broker_that_is_not_there_is_told_and_scaling_begins_when_it_is(
    release: ScaledRelease, settings: FeatureSettings
) -> None:
    await ensure_topics(settings, TOPICS.values())
    nowhere = f"127.0.0.1:{free_port()}"

    release.install(*values(settings), *scaled("feature", 1, 3), f"kafka.bootstrap={nowhere}")
    told = release.wait_for("feature", "Ready", "False")
    without = release.hpas()
    wait_until(lambda: "KEDAScalerFailed" in release.events("feature"), "an event says it", WITHIN_S)
    event_said = release.events("feature")["KEDAScalerFailed"]
    release.install(*values(settings), *scaled("feature", 1, 3))
    release.wait_for("feature", "Ready", "True")

    assert told.endswith(event_said)
    assert event_said.endswith(f"dial tcp {nowhere}: connect: connection refused")
    assert (without, release.hpas()) == (set(), {"keda-hpa-everloop-feature"})


@pytest.mark.parametrize(
    ("shown", "refused"),
    [("password", "SASL Authentication failed"), ("certificate", "private key does not match public key")],
)
async def test_keda_shows_kafka_what_the_secrets_have_and_needs_to_describe_topics_and_group_alone(
    release: ScaledRelease, secured: Secured, tmp_path: Path, shown: str, refused: str
) -> None:
    settings = secured.settings(tmp_path)
    await ensure_topics(settings, TOPICS.values())
    secured.allow(settings, shown)
    release.kubectl("create", "secret", "generic", "kafka-ca", f"--from-file=ca.crt={secured.file('ca.pem')}")
    wrong, right = secured.secrets(shown)

    release.kubectl("create", "secret", "generic", "kafka-user", *wrong)
    release.install(*values(settings), *scaled("feature", 1, 3), *secured.chart_values(shown))
    told = release.wait_for("feature", "Ready", "False")
    release.kubectl("delete", "secret", "kafka-user")
    release.kubectl("create", "secret", "generic", "kafka-user", *right)
    release.wait_for("feature", "Ready", "True")
    await publish(settings, "ingest", [event(n, entity=f"u{n}") for n in range(EVENTS)])

    wait_until(lambda: release.lag("feature") == [PARTITIONS * LAG, 0, 0, 0], "KEDA reads the lag", WITHIN_S)
    assert refused in told
    assert release.get("triggerauthentication/everloop-kafka")["status"] == {"scaledobjects": "everloop-feature"}
