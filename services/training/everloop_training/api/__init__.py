"""The HTTP endpoints of training."""

from everloop_training.api.routes import router

__all__ = ["router"]
