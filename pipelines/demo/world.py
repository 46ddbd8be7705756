"""The world of the demo's catalogue: twelve verticals and four visual families, which `renderer` draws.

A *family* is something that can be seen, such as the pattern of a surface or the place of a badge. Each vertical has
two of them as its attributes.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Family:
    """Something that can be seen.

    Attributes:
        attribute: its name as an attribute.
        description: a few words on it.
        evidence: for every value, phrases that say what it looks like.
    """

    attribute: str
    description: str
    evidence: dict[str, tuple[str, ...]]

    @property
    def values(self) -> list[str]:
        """All values, of which a vertical's closed list may leave one out."""
        return list(self.evidence)


FAMILIES: dict[str, Family] = {
    "pattern": Family(
        "pattern",
        "the design on the surface",
        {
            "solid": ("one even tone", "flat colour"),
            "striped": ("upright bars", "lines running down", "thin verticals"),
            "banded": ("bars across", "level lines", "stacked rows", "wide belts"),
            "checked": ("crossing lines", "small squares", "a grid of cells"),
            "dotted": ("round spots", "scattered circles", "tiny discs", "a spray of points"),
            "zigzag": ("sharp waves", "bent lines"),
            "floral": ("petal clusters", "blossom shapes", "little blooms", "rosettes"),
        },
    ),
    "upper": Family(
        "upper",
        "the shape at the top",
        {
            "plain": ("an empty rim", "nothing above"),
            "loop": ("a single arch", "one curved grip", "a bow on top"),
            "twin": ("two arches", "paired grips", "double bows"),
            "notched": ("a pointed cut", "a deep wedge"),
            "rounded": ("a scooped cut", "a half moon", "a soft dip"),
            "collared": ("two folded wings", "turned flaps", "a pair of lapels"),
        },
    ),
    "placement": Family(
        "placement",
        "where the badge sits",
        {
            "none": ("no mark at all", "an unmarked face"),
            "center": ("a patch in the middle", "a mark midway", "an emblem at the heart"),
            "left": ("a patch toward one side", "a mark on the near side"),
            "right": ("a patch on the far side", "a mark to the other side", "an emblem off beyond"),
            "hem": ("a patch low down", "a mark near the foot"),
        },
    ),
    "edge": Family(
        "edge",
        "the finish of the outline",
        {
            "bare": ("a raw edge", "a clean outline"),
            "piped": ("a thick outline", "a cord around", "a dark rim line"),
            "scalloped": ("bumps around", "a wavy outline", "little arcs outside"),
            "fringed": ("threads hanging", "a row of tassels"),
        },
    ),
}

VERTICALS: dict[str, tuple[str, str]] = {
    "suitcase": ("pattern", "upper"),
    "kurta": ("pattern", "placement"),
    "handbag": ("upper", "edge"),
    "shirt": ("pattern", "upper"),
    "dress": ("pattern", "edge"),
    "shoe": ("placement", "pattern"),
    "bedsheet": ("pattern", "edge"),
    "mug": ("placement", "pattern"),
    "watch": ("edge", "placement"),
    "lamp": ("upper", "pattern"),
    "rug": ("edge", "pattern"),
    "backpack": ("upper", "placement"),
}


def values_of(vertical: str, family: str) -> list[str]:
    """The closed list of a vertical's attribute. Of a larger family it leaves one value out, so that lists differ."""
    values = FAMILIES[family].values
    if len(values) <= 4:
        return values
    left_out = (list(VERTICALS).index(vertical) * 3 + len(family)) % len(values)
    return [value for k, value in enumerate(values) if k != left_out]


def sample_product(rng: np.random.Generator) -> tuple[str, dict[str, str]]:
    """A random vertical and, for each of its families, a random allowed value."""
    vertical = list(VERTICALS)[rng.integers(len(VERTICALS))]
    return vertical, {family: str(rng.choice(values_of(vertical, family))) for family in VERTICALS[vertical]}
