"""Ingest: takes observations, labels and feedback over HTTP, checks them and publishes them."""
