"""Dramatiq middleware of Relay."""
