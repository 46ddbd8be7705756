"""Samples several reasoning-and-answer chains for every attribute of every listing."""
