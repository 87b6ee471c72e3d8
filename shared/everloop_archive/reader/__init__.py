"""Reading the archive: its records in the order of the log, what it holds, and whether all of it can be read."""
