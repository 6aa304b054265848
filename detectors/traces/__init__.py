"""Detectors over stored traces, one shape a module."""
