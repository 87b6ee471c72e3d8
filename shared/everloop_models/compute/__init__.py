"""Runs functions of this project on a Ray cluster: the driver, which is a process of its own, and what a worker does."""
