"""A certificate authority of an installation's own, and the certificates that it gives."""
