"""Servers of real protocols on this machine, as processes that tests start and stop."""
