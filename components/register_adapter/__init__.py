"""Tracks a run in MLflow and registers its best adapter."""
