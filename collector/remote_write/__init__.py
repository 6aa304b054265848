"""Prometheus remote write: from bytes to columns."""
