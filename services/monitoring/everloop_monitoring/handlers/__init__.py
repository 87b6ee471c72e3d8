"""What monitoring does with each event and command."""

from everloop_monitoring.handlers.batch import RecordBatch
from everloop_monitoring.handlers.records import Handlers

__all__ = ["Handlers", "RecordBatch"]
