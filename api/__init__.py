"""What may be asked: HTTP routes and the live stream."""
