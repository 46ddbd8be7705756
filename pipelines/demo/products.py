"""Renders the demo's catalogue: schema, listings of four photographs each, gold labels for some, the truth for all."""

import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from attrloop.components.storage.files import write_atomic
from attrloop.pipelines.demo.renderer import render
from attrloop.pipelines.demo.world import FAMILIES, VERTICALS, sample_product, values_of

PHOTOGRAPHS = 4  # of each listing
DIFFICULTY = 1.0  # of every photograph (see `renderer.Style.at`)
_VERSION = 1  # of what is rendered; a catalogue of another version is rendered again


@dataclass(frozen=True)
class Sizes:
    """How many listings of each kind.

    `unlabelled` includes those that the annotator will label for training, and the 30 % that are kept for gold.
    """

    unlabelled: int = 1_100
    validation: int = 200
    test: int = 400

    @property
    def total(self) -> int:
        """All listings."""
        return self.unlabelled + self.validation + self.test


def write_catalogue(folder: Path, seed: int = 0, sizes: Sizes | None = None) -> bool:
    """Renders a catalogue, unless the folder has this very one.

    It writes `schema.yaml`, `listings.jsonl`, `images/`, `labels.jsonl` (the gold labels, as if from people) and
    `truth.jsonl`.

    Args:
        folder: to write to.
        seed: decides everything.
        sizes: how many listings; None for the demo's.

    Returns:
        Whether it was rendered.
    """
    sizes = sizes or Sizes()
    stamp = json.dumps({"version": _VERSION, "seed": seed, "sizes": vars(sizes)})
    if (folder / "stamp.json").exists() and (folder / "stamp.json").read_text() == stamp:
        return False
    (folder / "images").mkdir(parents=True, exist_ok=True)
    size = 50
    chunks = [(folder, seed, start, min(start + size, sizes.total)) for start in range(0, sizes.total, size)]
    with ProcessPoolExecutor(2) as pool:
        rows = [row for chunk in pool.map(_write_listings, chunks) for row in chunk]
    listings = [{"id": id_, "vertical": vertical, "images": images} for id_, vertical, images, _ in rows]
    gold = [
        {"listing": id_, "attribute": FAMILIES[family].attribute, "value": value, "source": "human", "split": split}
        for split, (first, last) in {
            "validation": (0, sizes.validation),
            "test": (sizes.validation, sizes.validation + sizes.test),
        }.items()
        for id_, _, _, values in rows[first:last]
        for family, value in values.items()
    ]
    truth = [
        {"listing": id_, "attribute": FAMILIES[family].attribute, "value": value}
        for id_, _, _, values in rows
        for family, value in values.items()
    ]
    write_atomic(folder / "schema.yaml", yaml.safe_dump(schema(), sort_keys=False).encode())
    for name, records in (("listings", listings), ("labels", gold), ("truth", truth)):
        write_atomic(folder / f"{name}.jsonl", "".join(json.dumps(record) + "\n" for record in records).encode())
    write_atomic(folder / "stamp.json", stamp.encode())
    return True


def schema() -> dict[str, object]:
    """The schema of the catalogue, as `schema.yaml` holds it."""
    return {
        "verticals": {
            vertical: {
                "attributes": {
                    FAMILIES[family].attribute: {
                        "description": FAMILIES[family].description,
                        "values": values_of(vertical, family),
                    }
                    for family in families
                }
            }
            for vertical, families in VERTICALS.items()
        }
    }


def _write_listings(chunk: tuple[Path, int, int, int]) -> list[tuple[str, str, list[str], dict[str, str]]]:
    folder, seed, first, last = chunk
    rows = []
    for number in range(first, last):
        rng = np.random.default_rng([seed, number])
        vertical, values = sample_product(rng)
        images = [f"images/{number:05d}-{k}.png" for k in range(PHOTOGRAPHS)]
        for image in images:
            Image.fromarray(render(vertical, values, rng, DIFFICULTY)).save(folder / image, compress_level=1)
        rows.append((f"{vertical}-{number:05d}", vertical, images, values))
    return rows
