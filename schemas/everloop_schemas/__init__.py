"""The contracts between services: every event, the loop spec, and the catalogue that collects them."""
