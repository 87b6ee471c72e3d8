"""The rules of the training service itself; those of learning are in `worker/learners`."""
