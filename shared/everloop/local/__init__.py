"""The local installation: Kafka at hand, and a supervisor for the six services."""
