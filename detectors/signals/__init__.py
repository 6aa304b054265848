"""Detectors over canonical `sig:` series, one signal a module."""
