"""Reads the sources of all loops from Kafka: a consumer for each, which follow the specs."""

from everloop_ingest.adapters.sources.manager import KafkaSources, kafka_sources

__all__ = ["KafkaSources", "kafka_sources"]
