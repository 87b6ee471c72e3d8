"""Roles of PostgreSQL: one for each service that owns a database, with no more rights than that."""
