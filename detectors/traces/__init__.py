"""Detectors that read traces."""
