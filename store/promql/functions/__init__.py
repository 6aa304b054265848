"""PromQL's functions: implementations by kind, one table."""
