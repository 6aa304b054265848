"""Grafana's dashboards as boards."""
