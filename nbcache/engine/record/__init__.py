"""What the log answers: runs, tasks, results, reasons, differences, lineage."""
