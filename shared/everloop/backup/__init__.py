"""Backup and restore: what is kept forever, to a folder and from it into an empty installation."""
