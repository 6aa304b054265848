"""Escalation: one after the other is told until somebody acknowledges."""
