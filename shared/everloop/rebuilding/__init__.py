"""Learns a version again from its manifest and the log, in a process of its own, and compares the bytes."""
