"""Draws the split of a group of listings from its key: the same in every run, for every catalogue."""

import hashlib

from attrloop.components.catalogue.records import Split

VALIDATION = TEST = 0.15  # fraction of the groups that each gold split is drawn from


def draw(purpose: str, key: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments, and is uniform over keys."""
    return int.from_bytes(hashlib.sha256(f"{purpose}\0{key}".encode()).digest()[:8], "big") / 2**64


def drawn_split(group: str) -> Split:
    """The split of a group of listings.

    Args:
        group: the group's key.
    """
    place = draw("split", group)
    if place < TEST:
        return "test"
    return "validation" if place < TEST + VALIDATION else "train"


def rank(listing: str) -> float:
    """The place of a listing in the order in which the listings of a split are taken, in [0, 1).

    What is taken for a small count is taken for a larger one too.
    """
    return draw("rank", listing)
