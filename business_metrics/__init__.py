"""Is the shop selling?"""
