"""What is wired to what, what becomes known when, and which task starts next."""
