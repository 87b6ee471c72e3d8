"""BigQuery: loads the archive into tables of it, and reads history from it."""
