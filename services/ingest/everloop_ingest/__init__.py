"""Ingest: the door where observations, labels and feedback come in, are checked, and go onto the log."""
