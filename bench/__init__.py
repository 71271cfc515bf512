"""Relay's benchmark: one command that starts the whole system, loads it, and counts what really arrived."""
