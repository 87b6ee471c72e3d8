"""Models of River (riverml.xyz): `format.py` is the entry, and nothing outside this package imports the library."""
