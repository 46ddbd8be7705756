"""Turns the votes of sampled chains into preference pairs and anchors for DPO."""
