"""The HTTP endpoints of monitoring, and the console."""

from everloop_monitoring.api.routes import router

__all__ = ["router"]
