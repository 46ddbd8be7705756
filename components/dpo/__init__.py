"""Trains the next adapter on preference pairs, with the previous adapter as the reference."""
