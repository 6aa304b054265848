"""What happened to findings."""
