"""Kafka's access control lists, made from the table of who writes and reads which topic."""
