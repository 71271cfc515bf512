"""The web API: a responder or resolver parses, makes one call, and renders."""
