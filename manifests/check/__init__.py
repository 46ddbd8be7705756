"""Checks the manifests offline: `python -m manifests.check`."""
