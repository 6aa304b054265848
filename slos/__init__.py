"""Is the error budget burning?"""
