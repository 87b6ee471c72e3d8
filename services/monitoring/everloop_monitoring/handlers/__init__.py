"""What monitoring does with each event and command."""

from everloop_monitoring.handlers.records import Handlers, RecordBatch

__all__ = ["Handlers", "RecordBatch"]
