"""Calls functions of this project on a Ray cluster, from a process of its own."""
