"""The memory bus: all six services in one process, for a look at a loop where there is no Kafka; nothing is kept."""
