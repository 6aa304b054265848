"""The demo shop: a small Django shop on its ORM, watched by Warroom."""
