"""The inventory service: its own process, its own database."""
