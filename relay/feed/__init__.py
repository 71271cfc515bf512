"""The live view: what becomes of deliveries, from all workers to whoever watches. Best effort, and never in anyone's way."""
