"""The HTTP endpoints of feature."""

from everloop_feature.api.routes import router

__all__ = ["router"]
