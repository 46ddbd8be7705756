"""What the report says of labels: how many there are, what was left out, and where there are fewer than asked for."""

from typing import Any

from attrloop.components.catalogue.records import SPLITS
from attrloop.components.results.reader import Results
from attrloop.components.run import layout
from attrloop.components.run.manifest import read_manifest


def labelled(results: Results) -> dict[str, Any]:
    """Listings with labels by split, those without, and what the labels cost in US dollars.

    `unlabelled` listings can be learnt from. `reserved` ones are of the gold splits: nothing is learnt from them.
    """
    ws = results.ws
    by_split = {split: ws.labels(split) for split in SPLITS}
    counts: dict[str, int] = {split: len({label.listing for label in labels}) for split, labels in by_split.items()}
    cost = sum(label.cost for labels in by_split.values() for label in labels)
    without, splits = len(ws.listings) - sum(counts.values()), read_manifest(ws.store, layout.SPLITS)
    free = int(splits.counts["train"]) - counts["train"] if splits else without
    return {**counts, "unlabelled": free, "reserved": without - free, "cost": cost}


def shortfalls(results: Results) -> dict[str, Any]:
    """What annotate has told: `short` (rows of `annotate.plan.Shortfall`), `remedy`, and `left_out` in sentences."""
    told = results.read_json(layout.ANNOTATE_REPORT)
    short = told.get("short", [])
    counted = (
        (told.get("given_surplus", 0), "Listings with labels that are not used, because the counts are reached"),
        (
            told.get("given_reviewed", 0),
            "Gold listings whose labels from a review are left out, because these are no fair sample",
        ),
        (
            len(told.get("given_mixed", [])),
            "Gold listings that comparisons leave out, because they share photographs with another split",
        ),
    )
    return {
        "short": short if isinstance(short, list) else [],  # earlier versions counted by vertical
        "remedy": told.get("remedy", ""),
        "left_out": [f"{what}: {count:,}." for count, what in counted if count],
    }
