"""The worker's side of Dramatiq: its actors and middleware. Each actor is its decorator and one call."""
