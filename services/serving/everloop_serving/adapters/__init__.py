"""Implements what serving needs: local disk, versions in memory, the history of its predictions."""
