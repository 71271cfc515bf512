"""Relay: accepts events, delivers them as signed webhooks, and does not lose one."""

__version__ = "0.1.0"
