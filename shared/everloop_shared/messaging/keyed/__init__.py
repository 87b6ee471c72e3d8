"""Keyed state: what a service stores per key, on any engine."""
