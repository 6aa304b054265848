"""Silences that come again."""
