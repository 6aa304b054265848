"""The only place with database drivers."""
