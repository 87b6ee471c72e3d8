"""What implements the ports: the worker's supervisor and client, its events' publisher, and the record of runs."""
