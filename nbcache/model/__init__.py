"""The words of nbcache as plain records: no I/O, no clock, no imports from other layers."""
