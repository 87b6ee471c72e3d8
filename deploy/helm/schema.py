"""The JSON Schema of the chart's values: everything that is not known is refused, settings by their names as well."""

from __future__ import annotations

from typing import Any

from everloop_feature.settings import FeatureSettings
from everloop_ingest.settings import IngestSettings
from everloop_monitoring.settings import MonitoringSettings
from everloop_registry.settings import RegistrySettings
from everloop_serving.settings import ServingSettings
from everloop_shared.settings import Settings
from everloop_training.settings import TrainingSettings

Schema = dict[str, Any]
SETTINGS: dict[str, type[Settings]] = {
    "ingest": IngestSettings,
    "feature": FeatureSettings,
    "training": TrainingSettings,
    "registry": RegistrySettings,
    "serving": ServingSettings,
    "monitoring": MonitoringSettings,
}
SET_BY_THE_CHART = {
    *("data", "host", "port", "grpc_port", "instance", "published_on", "allowed_hosts", "log_level"),
    *("kafka_bootstrap", "kafka_config", "partitions", "replication_factor", "topic_prefix"),
    *("database_url", "personal_keys_url", "personal_master_key", "artifacts", "feature_url", "ingest_url"),
    *("registry_url", "console_url", "receivers", "token", "token_file", "signing_key", "trusted_keys"),
    *("tls_cert", "tls_key", "tls_ca", "tls_client_ca", "mlflow_mirror_token"),
    *("auth", "auth_keys", "auth_issuer", "auth_audience", "auth_algorithms", "auth_jwks_url", "auth_roles_claim"),
    *("auth_team_claim", "auth_client_id", "auth_client_secret_file", "auth_client_scope"),
    *("limit_requests_per_s", "limit_rows_per_s", "limit_bytes_per_s", "limit_in_progress"),
}
"""Fields of settings that other values stand for, and secrets, which are never values."""
SHARED = {"TRAINING_ALLOW": "estimators that batch lines may name; registry and training read the same"}
"""Settings that several services read under one name beside those of every service."""
NAME_OF_SERVICE = f"^({'|'.join(SETTINGS)})$"
TEXT: Schema = {"type": "string"}
SWITCH: Schema = {"type": "boolean"}
TEXTS: Schema = {"type": "array", "items": TEXT}
BY_NAME: Schema = {"type": "object", "additionalProperties": TEXT}
KUBERNETES: Schema = {"type": "object"}
"""What Kubernetes itself checks."""
DIGEST: Schema = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
OBJECTS: Schema = {"type": "array", "items": KUBERNETES}
TEMPLATE: Schema = {"type": "string", "pattern": r"^([a-z0-9.-]|\{service\})*$"}


def whole(least: int, most: int) -> Schema:
    """A whole number between two others."""
    return {"type": "integer", "minimum": least, "maximum": most}


def mapping(**properties: Schema) -> Schema:
    """An object that has these properties alone."""
    return {"type": "object", "properties": properties, "additionalProperties": False}


def key_of(**keys: Schema) -> Schema:
    """A reference to a Secret: its name and which of its keys."""
    return mapping(name=TEMPLATE, **(keys or {"key": TEXT}))


def values_schema() -> Schema:
    """The schema of values.yaml."""
    found = mapping(**_installation(), **_connections(), **_access(), **_objects())
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "Values of Everloop's chart", **found}


def _installation() -> dict[str, Schema]:
    services = mapping(**{name: _service(name) for name in SETTINGS})
    return {
        "global": {"type": "object"},
        "nameOverride": TEXT,
        "fullnameOverride": TEXT,
        "clusterDomain": TEXT,
        "image": mapping(
            registry={"type": "string", "pattern": "^[a-z0-9.:/_-]+$"},
            tag={"type": "string", "pattern": "^[A-Za-z0-9._-]*$"},
            digests=mapping(**dict.fromkeys((*SETTINGS, "acls", "operator"), DIGEST)),
            pullPolicy={"enum": ["Always", "IfNotPresent", "Never"]},
            pullSecrets=OBJECTS,
        ),
        "partitions": whole(1, 1000),
        "replicationFactor": whole(1, 10),
        "topicPrefix": {"type": "string", "pattern": "^[A-Za-z0-9._-]{0,100}$"},
        "logLevel": {"enum": ["DEBUG", "INFO", "WARNING", "ERROR"]},
        "settings": _settings(Settings, SHARED),
        "allowedHosts": TEXTS,
        "services": services,
    }


def _settings(of: type[Settings], more: dict[str, str] | None = None) -> Schema:
    """Settings by the names of their variables, without those that the chart sets."""
    value: Schema = {"type": ["string", "number", "boolean"]}
    fields = {name: field for name, field in of.model_fields.items() if name not in SET_BY_THE_CHART}
    found = {name.upper(): value | {"description": field.description or ""} for name, field in fields.items()}
    return mapping(**found, **{name: value | {"description": text} for name, text in (more or {}).items()})


def _service(name: str) -> Schema:
    return mapping(
        replicas=whole(1, 1000),
        resources=mapping(requests=KUBERNETES, limits=KUBERNETES),
        persistence=mapping(enabled=SWITCH, size={"type": "string", "pattern": "^[0-9.]+[KMGT]i?$"}, storageClass=TEXT),
        autoscaling=mapping(
            enabled=SWITCH,
            minReplicas=whole(1, 1000),
            maxReplicas=whole(1, 1000),
            cpu=whole(0, 1000),
            lag=whole(0, 1_000_000_000),
        ),
        terminationGracePeriodSeconds=whole(30, 3600),
        settings=_settings(SETTINGS[name]),
        serviceAccount=mapping(annotations=BY_NAME),
        podAnnotations=BY_NAME,
        nodeSelector=BY_NAME,
        tolerations=OBJECTS,
        affinity=KUBERNETES,
        hostAliases=OBJECTS,
    )


def _connections() -> dict[str, Schema]:
    database = {"url": TEXT, "passwordSecret": key_of(), "urlSecret": key_of()}
    certificate = key_of(certKey=TEXT, keyKey=TEXT)
    ssl_mode: Schema = {"enum": ["", "disable", "allow", "prefer", "require", "verify-ca", "verify-full"]}
    return {
        "kafka": mapping(
            bootstrap={"type": "string", "pattern": "^([^:, ]+:[0-9]{1,5}(,[^:, ]+:[0-9]{1,5})*)?$"},
            clientConfig=_client_config(),
            caSecret=key_of(),
            userSecret=certificate,
            existingSecret=key_of(),
            topics=mapping(enabled=SWITCH),
            acls=mapping(enabled=SWITCH, userPrefix=TEXT, sources=TEXTS),
            hostAliases=OBJECTS,
        ),
        "postgresql": mapping(
            enabled=SWITCH,
            sslMode=ssl_mode,
            caSecret=key_of(),
            registry=mapping(**database),
            monitoring=mapping(**database),
        ),
        "personal": mapping(enabled=SWITCH, **database, sslMode=ssl_mode, caSecret=key_of(), masterKeySecret=key_of()),
        "artifacts": mapping(
            url={"type": "string", "pattern": "^([a-z0-9]+://[^@ ]+)?$"},
            existingClaim=TEXT,
            credentialsSecret=TEXT,
            googleSecret=key_of(),
        ),
        "keda": mapping(
            tls=mapping(enabled=SWITCH, caSecret=key_of(), userSecret=certificate),
            sasl=mapping(
                mechanism={"enum": ["", "plaintext", "scram_sha256", "scram_sha512"]},
                secret=key_of(usernameKey=TEXT, passwordKey=TEXT),
            ),
        ),
    }


def _client_config() -> Schema:
    """Kafka's client settings that are no secret and name no file."""
    milliseconds = {name: whole(1, 3_600_000) for name in ("request_timeout_ms", "metadata_max_age_ms")}
    protocol = {"enum": ["PLAINTEXT", "SSL"]}
    return mapping(security_protocol=protocol, ssl_check_hostname=SWITCH, **milliseconds)


def _access() -> dict[str, Schema]:
    limit = {"type": "number", "minimum": 0}
    return {
        "tls": mapping(enabled=SWITCH, secret=TEMPLATE, clientCertificates=SWITCH),
        "access": mapping(
            enabled=SWITCH,
            keysSecret=key_of(),
            **dict.fromkeys(("issuer", "audience", "algorithms", "jwksUrl", "rolesClaim", "teamClaim"), TEXT),
            servingTokenSecret=key_of(),
            monitoringTokenSecret=key_of(),
            console=mapping(clientId=TEXT, clientSecret=key_of(), scope=TEXT),
            limits=mapping(requestsPerS=limit, rowsPerS=limit, bytesPerS=limit, inProgress=whole(0, 1_000_000)),
        ),
        "signing": mapping(trustedKeysConfigMap=key_of(), trainingKeySecret=key_of(), registryKeySecret=key_of()),
        "receivers": mapping(secret=TEXT, key=TEXT, variablesSecret=TEXT),
        "consoleUrl": {"type": "string", "pattern": r"^(https?://[^\s@?#]+)?$"},
    }


def _objects() -> dict[str, Schema]:
    ports = {"type": "array", "items": whole(1, 65535), "minItems": 1}
    egress = mapping(ports=ports, to=OBJECTS)
    hosts: Schema = {"type": "object", "additionalProperties": TEXT, "propertyNames": {"pattern": NAME_OF_SERVICE}}
    return {
        "podDisruptionBudget": mapping(enabled=SWITCH, maxUnavailable=whole(1, 100)),
        "topologySpread": mapping(
            enabled=SWITCH, whenUnsatisfiable={"enum": ["ScheduleAnyway", "DoNotSchedule"]}, topologyKeys=TEXTS
        ),
        "networkPolicy": mapping(
            enabled=SWITCH,
            clients=OBJECTS,
            prometheus=OBJECTS,
            kafka=egress,
            postgresql=egress,
            stores=egress,
            dns=egress,
        ),
        "ingress": mapping(enabled=SWITCH, className=TEXT, annotations=BY_NAME, hosts=hosts, tlsSecret=TEXT),
        "httpRoute": mapping(enabled=SWITCH, parentRefs=OBJECTS, hosts=hosts, grpcHost=TEXT),
        "serviceMonitor": mapping(
            enabled=SWITCH,
            interval={"type": "string", "pattern": "^[0-9]+(s|m)$"},
            labels=BY_NAME,
            tokenSecret=key_of(),
        ),
        "prometheusRule": mapping(enabled=SWITCH, labels=BY_NAME),
        "operator": mapping(
            enabled=SWITCH,
            namespaces=TEXTS,
            tokenSecret=key_of(),
            pollS={"type": "number", "minimum": 0.2, "maximum": 3600},
            qualityS={"type": "number", "minimum": 0.2, "maximum": 3600},
            logLevel={"enum": ["DEBUG", "INFO", "WARNING"]},
            apiServer=egress,
            resources=mapping(requests=KUBERNETES, limits=KUBERNETES),
            serviceAccount=mapping(annotations=BY_NAME),
            nodeSelector=BY_NAME,
            tolerations=OBJECTS,
            affinity=KUBERNETES,
        ),
        "test": mapping(tokenSecret=key_of(), timeoutSeconds=whole(10, 3600), hostAliases=OBJECTS),
    }
