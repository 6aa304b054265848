"""Rows of findings in the state database, and how many of them are kept."""
