"""`kill -9` at random moments of every command: nothing half-written, locked, lost or done twice."""
