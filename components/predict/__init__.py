"""Predicts every attribute of a catalogue, and queues what a person should review."""
