"""The contracts of the house: every event, the loop spec, and the catalogue that collects them."""
