"""The Kafka engine, over aiokafka."""
