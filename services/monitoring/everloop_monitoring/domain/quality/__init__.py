"""The quality of predictions by version, line, role and slice."""
