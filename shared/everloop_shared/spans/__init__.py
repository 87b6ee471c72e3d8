"""Spans of OpenTelemetry: what the services do for a request or a record, where EVERLOOP_OTLP_URL says where to."""
