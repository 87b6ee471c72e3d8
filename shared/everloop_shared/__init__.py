"""The kernel: how a service runs, never what it is about."""
