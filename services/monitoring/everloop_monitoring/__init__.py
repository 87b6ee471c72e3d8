"""monitoring: prequential evaluation, drift, alerts, and the console."""
