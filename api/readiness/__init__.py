"""Is the shop, and its watch, ready for the sale? Load tests, headroom, a checklist."""
