"""Boards that were edited in the browser."""
