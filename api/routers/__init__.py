"""One protocol or subject a module."""
