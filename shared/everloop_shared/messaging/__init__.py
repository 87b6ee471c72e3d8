"""Messaging: which handler consumes which topic (`routes`), and the engines that run it: memory, Kafka, Faust."""
