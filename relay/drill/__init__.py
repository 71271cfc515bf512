"""The fault drill: a throw-away copy of the system is broken on purpose, under load, and its losses are counted."""
