import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attrloop.pipelines.demo.renderer import render
from attrloop.pipelines.demo.world import sample_product


@pytest.fixture(scope="session")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue folder of 24 listings with two photographs each, and its truth."""
    folder, rng = tmp_path_factory.mktemp("rendered"), np.random.default_rng(3)
    listings, truth = [], []
    for k in range(24):
        vertical, values = sample_product(rng)
        names = [f"{k}-{view}.png" for view in range(2)]
        for name in names:
            Image.fromarray(render(vertical, values, rng, 1.0)).save(folder / name)
        listings.append({"id": f"{vertical}-{k}", "vertical": vertical, "images": names})
        truth += [
            {"listing": f"{vertical}-{k}", "attribute": attribute, "value": value}
            for attribute, value in values.items()
        ]
    for file, rows in (("listings.jsonl", listings), ("truth.jsonl", truth)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict]]:
    return lambda path: [json.loads(line) for line in path.read_text().splitlines()]
