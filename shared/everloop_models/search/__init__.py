"""Searches for better parameters of a model: which are tried, how each is judged, and the process that does it."""
