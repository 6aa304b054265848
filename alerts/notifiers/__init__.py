"""One integration each."""
