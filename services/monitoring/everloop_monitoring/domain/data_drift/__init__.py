"""Drift of features, predictions and labels: bounded sketches of what was and of what is, compared as they arrive."""
