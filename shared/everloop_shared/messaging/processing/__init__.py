"""The path of a record through its handler, the same for every engine."""
