"""One system each."""
