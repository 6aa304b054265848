"""The demo: the shop's processes, the story it plays, and the doubles it pages."""
