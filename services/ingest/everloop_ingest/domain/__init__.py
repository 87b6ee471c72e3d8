"""The door's rules: how bodies are read, what a label must be, how much is taken at once."""
