"""Prometheus scraping: configuration, text formats, relabelling, and the scrape itself."""
