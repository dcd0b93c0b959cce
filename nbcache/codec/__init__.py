"""Values to bytes and back. Bytes made here are stored, never hashed for identity."""
