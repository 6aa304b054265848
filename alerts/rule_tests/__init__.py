"""Unit tests of rules in promtool's format, run by the engine and the evaluator of the service."""
