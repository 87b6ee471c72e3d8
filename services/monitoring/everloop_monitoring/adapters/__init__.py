"""The projections, the reader and the unit of work on SQL, and the Prometheus gauges."""
