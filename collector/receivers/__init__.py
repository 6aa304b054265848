"""One wire protocol each."""
