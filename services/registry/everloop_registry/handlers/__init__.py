"""What the registry does about each event and each command: open the loop's decision log, decide, save, publish."""

from everloop_registry.handlers.commands import CommandHandlers, Quota
from everloop_registry.handlers.events import EventHandlers
from everloop_registry.handlers.submissions import SubmissionHandlers

__all__ = ["CommandHandlers", "EventHandlers", "Quota", "SubmissionHandlers"]
