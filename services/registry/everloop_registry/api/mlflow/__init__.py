"""MLflow's REST API, version 2: the registry as tracking server and as model registry of MLflow's own clients."""

from everloop_registry.api.mlflow.artifacts import ARTIFACT
from everloop_registry.api.mlflow.routes import PREFIX, MlflowApi, mlflow_router

__all__ = ["ARTIFACT", "PREFIX", "MlflowApi", "mlflow_router"]
