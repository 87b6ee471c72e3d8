"""What provides the registry's ports: SQL tables, the artifact store, and child processes."""
