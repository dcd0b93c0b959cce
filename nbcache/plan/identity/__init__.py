"""What code and values are, and how identities become hashes and explanations."""
