"""What training does with each event and each request: the learners' part, that of trainers elsewhere, and searches."""

from everloop_training.handlers.learning import Handlers
from everloop_training.handlers.searches import SearchHandlers
from everloop_training.handlers.trainers import TrainerHandlers

__all__ = ["Handlers", "SearchHandlers", "TrainerHandlers"]
