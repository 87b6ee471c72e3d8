"""The local installation: Kafka at hand and one small supervisor for the six services."""
