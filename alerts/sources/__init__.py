"""Findings, burn rates, KPIs: each turned into one frozen Alert."""
