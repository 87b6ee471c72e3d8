"""The rules of ingest: how bodies are read, what an entry must be, how much is in progress at a time."""
