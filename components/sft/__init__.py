"""Trains the first adapter on labels: a short rationale, then the answer."""
