"""The action of each route of each service; a route that is not listed here is refused to everybody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property

OPEN = ("/livez", "/readyz")
"""What an orchestrator asks: answered without a token, at every service."""


class Reach(StrEnum):
    """For which loops somebody must have the role."""

    LOOP = "the loop of the address"
    SOME = "some loop; what belongs to other loops is neither answered nor changed"
    ALL = "all loops"


@dataclass(frozen=True)
class RouteRule:
    """What a request to this method and path does; `path` is a template such as `/v1/loops/{loop}`."""

    method: str
    path: str
    action: str

    @cached_property
    def reach(self) -> Reach:
        """For which loops the role is needed."""
        if "{loop}" in self.path:
            return Reach.LOOP
        checked = self.action in _CHECKED_BY_HANDLERS or self.path.startswith((_MLFLOW, _FILES))
        return Reach.SOME if checked else Reach.ALL

    @property
    def pattern(self) -> re.Pattern[str]:
        """Matches a decoded path; the group `loop` is its loop."""
        parts = re.split(r"\{(\w+)(:path)?\}", self.path)
        written = [re.escape(parts[0])]
        for name, rest, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            written.append((f"(?P<{name}>.*)" if rest else f"(?P<{name}>[^/]+)") + re.escape(after))
        return re.compile("".join(written), re.DOTALL)


SIGN_IN: Mapping[str, tuple[RouteRule, ...]] = {
    "monitoring": tuple(
        RouteRule("POST", f"/sign-in/{way}", "console.sign_in") for way in ("key", "code", "provider", "return")
    )
}
"""By service, the ways to sign in, which take no role; the audit records them by their action."""
OPEN_RULES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "monitoring": (("GET", "/"), ("GET", "/sign-in"), *((rule.method, rule.path) for rule in SIGN_IN["monitoring"]))
}
"""By service, what else is answered without a token: the console's pages, which are the same for everybody and show
nothing of the installation, and the ways to sign in."""

_CHECKED_BY_HANDLERS = ("server.read", "codes.issue", "loops.read", "quotas.read", "letters.read", "letters.send")
"""Actions whose routes without a loop in the address answer with what belongs to loops of the caller alone."""

_EVERY_SERVICE = {
    "server.read": ("GET /docs", "GET /openapi.json"),
    "metrics.read": ("GET /metrics",),
}
_MLFLOW = "/api/2.0/mlflow"
_FILES = "/api/2.0/mlflow-artifacts"
_EXPERIMENTS_READ = (
    f"GET {_MLFLOW}/experiments/search",
    f"POST {_MLFLOW}/experiments/search",
    f"GET {_MLFLOW}/experiments/get",
    f"GET {_MLFLOW}/experiments/get-by-name",
    f"GET {_MLFLOW}/runs/get",
    f"POST {_MLFLOW}/runs/search",
    f"GET {_MLFLOW}/metrics/get-history",
    f"POST {_MLFLOW}/logged-models/search",
    f"GET {_MLFLOW}/logged-models/{{model_id}}",
    f"GET {_MLFLOW}/logged-models/{{model_id}}/artifacts/directories",
    f"GET {_FILES}/artifacts",
    f"GET {_FILES}/artifacts/{{path:path}}",
    f"GET {_FILES}/{{kind}}/{{path:path}}",
)
_EXPERIMENTS_WRITTEN = (
    *(
        f"POST {_MLFLOW}/experiments/{verb}"
        for verb in ("create", "update", "delete", "restore", "set-experiment-tag", "delete-experiment-tag")
    ),
    *(f"POST {_MLFLOW}/runs/{verb}" for verb in ("create", "update", "delete", "restore", "set-tag", "delete-tag")),
    *(f"POST {_MLFLOW}/runs/{verb}" for verb in ("log-metric", "log-parameter", "log-batch", "log-inputs", "outputs")),
    f"POST {_MLFLOW}/logged-models",
    f"PATCH {_MLFLOW}/logged-models/{{model_id}}",
    f"DELETE {_MLFLOW}/logged-models/{{model_id}}",
    f"PATCH {_MLFLOW}/logged-models/{{model_id}}/tags",
    f"DELETE {_MLFLOW}/logged-models/{{model_id}}/tags/{{tag_key}}",
    f"POST {_MLFLOW}/logged-models/{{model_id}}/params",
    f"PUT {_FILES}/artifacts/{{path:path}}",
    f"DELETE {_FILES}/artifacts/{{path:path}}",
    f"POST {_FILES}/{{kind}}/{{path:path}}",
)
_MODELS_READ = (
    f"GET {_MLFLOW}/registered-models/search",
    f"GET {_MLFLOW}/registered-models/get",
    f"GET {_MLFLOW}/registered-models/alias",
    f"GET {_MLFLOW}/registered-models/get-latest-versions",
    f"POST {_MLFLOW}/registered-models/get-latest-versions",
    f"GET {_MLFLOW}/model-versions/search",
    f"GET {_MLFLOW}/model-versions/get",
    f"GET {_MLFLOW}/model-versions/get-download-uri",
)
_NOTES_WRITTEN = (
    f"PATCH {_MLFLOW}/registered-models/update",
    f"POST {_MLFLOW}/registered-models/set-tag",
    f"DELETE {_MLFLOW}/registered-models/delete-tag",
    f"PATCH {_MLFLOW}/model-versions/update",
    f"POST {_MLFLOW}/model-versions/set-tag",
    f"DELETE {_MLFLOW}/model-versions/delete-tag",
)
_BY_HAND = (  # answered with a refusal that says how a version becomes champion
    f"POST {_MLFLOW}/registered-models/rename",
    f"DELETE {_MLFLOW}/registered-models/delete",
    f"POST {_MLFLOW}/registered-models/alias",
    f"DELETE {_MLFLOW}/registered-models/alias",
    f"POST {_MLFLOW}/model-versions/transition-stage",
    f"DELETE {_MLFLOW}/model-versions/delete",
)
_LOOP = "/v1/loops/{loop}"
_MONITORED = (
    *("status", "evaluation", "drifts", "timeline", "series", "features", "fairness", "importance", "quality"),
    *("alerts", "silences", "objectives"),
)
_DECIDED = ("versions", "rollout", "history", "lineage")
_VERDICTS = ("approve", "reject", "promote")
_STEERED = ("rollback", "resume", *_VERDICTS)
_RUN = f"{_LOOP}/runs/{{run}}"

_BY_SERVICE: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "ingest": {
        "events.publish": (f"POST {_LOOP}/events",),
        "labels.publish": (f"POST {_LOOP}/labels", f"POST {_LOOP}/feedback"),
        "loops.read": (f"GET {_LOOP}", f"GET {_LOOP}/sources"),
        "records.publish": (f"POST {_LOOP}/sources/{{source}}/records",),
    },
    "feature": {
        "loops.read": (f"GET {_LOOP}",),
        "entities.read": (f"GET {_LOOP}/entities/{{entity:path}}",),
        "personal.read": (f"GET {_LOOP}/subjects/{{entity:path}}",),
    },
    "training": {
        "quotas.read": ("GET /v1/quotas",),
        "runs.read": (f"GET {_LOOP}/runs",),
        "runs.request": (f"POST {_LOOP}/runs",),
        "runs.work": (
            f"POST {_LOOP}/runs/lease",
            *(f"POST {_RUN}/{verb}" for verb in ("renew", "release", "fail")),
            f"PUT {_RUN}/model",
        ),
        "data.read": (f"GET {_LOOP}/data-set",),
        "searches.read": (f"GET {_LOOP}/searches",),
        "searches.request": (f"POST {_LOOP}/searches",),
    },
    "registry": {
        "loops.read": (
            "GET /v1/loops",
            f"GET {_LOOP}",
            *(f"GET {_LOOP}/{view}" for view in _DECIDED),
            f"GET {_LOOP}/entities/{{entity:path}}/erasures",
        ),
        "personal.erase": (f"POST {_LOOP}/entities/{{entity:path}}/erase",),
        "quotas.read": ("GET /v1/quotas",),
        "models.read": _MODELS_READ,
        "loops.apply": (f"PUT {_LOOP}",),
        "loops.diff": (f"POST {_LOOP}/diff",),
        "loops.delete": (f"DELETE {_LOOP}",),
        "rollout.change": (*(f"POST {_LOOP}/{verb}" for verb in _STEERED), *_BY_HAND),
        "models.submit": (
            f"POST {_LOOP}/versions",
            f"POST {_MLFLOW}/registered-models/create",
            f"POST {_MLFLOW}/model-versions/create",
        ),
        "experiments.read": _EXPERIMENTS_READ,
        "experiments.write": (*_EXPERIMENTS_WRITTEN, *_NOTES_WRITTEN),
        "server.read": ("GET /api/3.0/mlflow/server-info",),
    },
    "serving": {
        "predict": (
            f"POST {_LOOP}/predict",
            "POST /v2/models/{loop}/infer",
            "POST /v2/models/{loop}/versions/{version}/infer",
        ),
        "predictions.read": (f"GET {_LOOP}/predictions/{{prediction_id:path}}",),
        "loops.read": (f"GET {_LOOP}",),
        "models.read": (
            "GET /v2/models/{loop}",
            "GET /v2/models/{loop}/versions/{version}",
            "GET /v2/models/{loop}/ready",
            "GET /v2/models/{loop}/versions/{version}/ready",
        ),
        "server.read": ("GET /v2", "GET /v2/health/live", "GET /v2/health/ready"),
    },
    "monitoring": {
        "server.read": ("GET /v1/session", "DELETE /v1/session"),
        "codes.issue": ("POST /v1/session/codes",),
        "loops.read": ("GET /v1/loops", f"GET {_LOOP}", *(f"GET {_LOOP}/{view}" for view in _MONITORED)),
        "rollout.change": tuple(f"POST {_LOOP}/{verb}" for verb in _VERDICTS),
        "predictions.read": (f"GET {_LOOP}/predictions", f"GET {_LOOP}/versions/{{version}}/predictions"),
        "alerts.silence": (f"POST {_LOOP}/silences", f"DELETE {_LOOP}/silences/{{id}}"),
        "letters.read": (
            "GET /v1/dead-letters",
            "GET /v1/dead-letters/{id}",
            "GET /v1/dead-letters/{id}/value",
            "GET /v1/dead-letters/{id}/body",
        ),
        "letters.send": tuple(f"POST /v1/dead-letters/{{id}}/{verb}" for verb in ("plan", "send", "sent")),
    },
    "topics": {  # in place of a Kafka consumer, on the memory bus
        "topics.read": ("GET /v1/topics", "GET /v1/records"),
    },
}

_INFERENCE = "/inference.GRPCInferenceService"
GRPC: Mapping[str, str] = {
    f"{_INFERENCE}/ServerLive": "server.read",
    f"{_INFERENCE}/ServerReady": "server.read",
    f"{_INFERENCE}/ServerMetadata": "server.read",
    f"{_INFERENCE}/ModelReady": "models.read",
    f"{_INFERENCE}/ModelMetadata": "models.read",
    f"{_INFERENCE}/ModelInfer": "predict",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": "server.read",
}
"""The action of each gRPC method of serving; the model that a message names is the loop."""
OPEN_GRPC = ("/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch")
"""What an orchestrator asks by gRPC: answered without a token."""


def _rules(service: str) -> tuple[RouteRule, ...]:
    tables = (_BY_SERVICE[service], _EVERY_SERVICE)
    listed = [(route.split(" "), action) for table in tables for action, routes in table.items() for route in routes]
    return tuple(RouteRule(method, path, action) for (method, path), action in listed)


RULES: Mapping[str, tuple[RouteRule, ...]] = {service: _rules(service) for service in _BY_SERVICE}
"""The rules of each service, and of `topics`, which the memory bus has beside them."""
