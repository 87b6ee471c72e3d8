"""What training does with each event and each request: the learners' part, and that of trainers elsewhere."""

from everloop_training.handlers.learning import Handlers
from everloop_training.handlers.trainers import TrainerHandlers

__all__ = ["Handlers", "TrainerHandlers"]
