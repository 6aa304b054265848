"""Incidents and their timelines, as rows."""
