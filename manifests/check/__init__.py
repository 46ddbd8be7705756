"""Checks of the manifests, offline: `python -m manifests.check`."""
