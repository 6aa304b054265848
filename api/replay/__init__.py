"""What the wall showed at an earlier instant, with what was known then."""
