"""One attempt, as a worker performs it: stage, run, harvest, report."""
