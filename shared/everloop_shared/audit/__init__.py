"""The audit of a service: what was asked of it and by whom, on a topic that all services write."""
