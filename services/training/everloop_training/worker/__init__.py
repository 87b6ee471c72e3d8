"""The worker process: the lines of all loops learn in it, away from the event loop of the service."""
