"""Copies an adapter that was trained before into a run."""
