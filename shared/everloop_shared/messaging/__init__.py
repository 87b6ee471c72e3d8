"""Messaging: one table of routes, three engines that run it (memory, aiokafka, Faust)."""
