"""Values that cannot work are refused before anything is rendered, by the schema or by the chart."""

from __future__ import annotations

import pytest
from tests.integrations.environments import Environment
from tests.kubernetes.chart import TRIAL, template

pytestmark = [pytest.mark.kubernetes, pytest.mark.timeout(900)]

REFUSED = [
    ("kafka.bootstrap=", "kafka.bootstrap: name the brokers"),
    ("kafka.bootstrap=kafka", "kafka/bootstrap"),
    ("services.feature.replicas=13", "services.feature.replicas is 13, but topics have 12 partitions"),
    ("services.training.replicas=13", "services.training.replicas is 13"),
    ("services.registry.replicas=2", "with postgresql.enabled=false its database is a file of one replica"),
    ("services.monitoring.persistence.enabled=false", "services.monitoring.persistence.enabled"),
    ("services.ingest.replicas=0", "services/ingest/replicas"),
    ("services.feature.settings.MAX_ENTITY=5", "additional properties 'MAX_ENTITY' not allowed"),
    ("services.feature.replica=2", "additional properties 'replica' not allowed"),
    ("services.features.replicas=2", "additional properties 'features' not allowed"),
    ("settings.TOKEN=secret", "additional properties 'TOKEN' not allowed"),
    ("kafka.clientConfig.sasl_plain_password=secret", "additional properties 'sasl_plain_password' not allowed"),
    ("kafka.userSecret.name=user", "kafka.userSecret is a certificate"),
    ("kafka.acls.enabled=true", "kafka.acls: lists are of a user for each service"),
    ("networkPolicy.enabled=false", "access.enabled=false needs networkPolicy.enabled"),
    ("ingress.enabled=true", "access.enabled=false with ingress or httpRoute"),
    ("access.enabled=true", "access: set keysSecret.name"),
    ("artifacts.url=s3://models/x", "artifacts: set one of url"),
    ("tls.enabled=true", "tls.secret: name the Secrets"),
    ("tls.clientCertificates=true", "tls.clientCertificates needs tls.enabled"),
    ("postgresql.enabled=true", "postgresql.registry: set one of url and urlSecret.name"),
    ("personal.enabled=true", "personal.masterKeySecret.name"),
    ("services.ingest.autoscaling.enabled=true,services.ingest.autoscaling.lag=5", "ingest reads no stream of its own"),
    ("services.ingest.autoscaling.enabled=true,services.ingest.autoscaling.minReplicas=20", "minReplicas is 20"),
    ("services.feature.autoscaling.enabled=true,services.feature.autoscaling.lag=0", "set cpu (percent) or lag"),
    ("services.feature.autoscaling.enabled=true,partitions=4", "autoscaling.maxReplicas is 12, but topics have 4"),
    (
        "services.serving.autoscaling.enabled=true,services.serving.persistence.enabled=false",
        "services.serving.autoscaling needs persistence.enabled",
    ),
    (
        "services.serving.autoscaling.enabled=true,services.serving.autoscaling.cpu=0,partitions=4",
        "services.serving.autoscaling.maxReplicas is 12",
    ),
    ("services.registry.autoscaling.enabled=true,services.registry.autoscaling.lag=5", "replicas write one at a time"),
    ("services.serving.terminationGracePeriodSeconds=5", "terminationGracePeriodSeconds"),
]


@pytest.mark.parametrize(("given", "reason"), REFUSED, ids=[given for given, _ in REFUSED])
def test_values_that_cannot_work_are_refused_with_the_value_and_the_fix(
    made: Environment, given: str, reason: str
) -> None:
    done = template(made, [TRIAL], [given])

    assert done.returncode == 1
    assert reason in done.stderr


def test_all_problems_are_named_at_once(made: Environment) -> None:
    done = template(made, [], [])

    for part in ("kafka.bootstrap", "postgresql.registry", "postgresql.monitoring", "artifacts", "access: set"):
        assert part in done.stderr
