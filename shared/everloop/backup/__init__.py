"""Backup and restore: what is kept forever, to a folder and back into an empty installation."""
