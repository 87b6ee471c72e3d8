"""The registry's HTTP endpoint."""
