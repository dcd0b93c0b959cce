"""Stores of objects that people share: folders, S3, GCS, Azure, behind one small protocol."""
