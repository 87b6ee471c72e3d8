"""Loads history from files, BigQuery or an archive into a loop, as events with their own times."""
