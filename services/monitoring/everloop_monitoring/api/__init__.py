"""The HTTP endpoints of monitoring, and the console."""

from everloop_monitoring.api.letters import letter_router
from everloop_monitoring.api.routes import router

__all__ = ["letter_router", "router"]
