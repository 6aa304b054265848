"""Callables of one signature between a receiver and the store."""
