"""Clean-up: what is pinned, what goes, what killed processes left."""
