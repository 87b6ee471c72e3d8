"""The memory bus: all six services in one process, to try Everloop where there is no Kafka; nothing is kept."""
