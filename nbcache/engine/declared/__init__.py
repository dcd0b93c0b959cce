"""What a notebook has declared: processes, channels, parameters, compiled to a graph."""
