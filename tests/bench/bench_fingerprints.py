"""Measures fingerprints on photographs: which copies are found, which others are taken for copies, and the time.

    python -m tests.bench.bench_fingerprints FOLDER         # of photographs, each of something else

Every photograph is compared with every other one, so those in the folder that are alike are listed.
"""

import io
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from attrloop.components.catalogue.images import ImageReader
from attrloop.components.gold.fingerprint import SIDE, alike, as_array, fingerprint, near
from attrloop.components.run.config import DataConfig
from tests.photographs import COPIES, encoded

_SAMPLE = 500  # photographs that copies are made of
MORE = {
    **COPIES,
    "half, JPEG 70": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "JPEG", quality=70),
    "border of 2 % cut off": lambda image: encoded(
        image.crop((image.width // 50 + 1, image.height // 50 + 1, image.width * 49 // 50, image.height * 49 // 50)),
        "PNG",
    ),
    "grey": lambda image: encoded(image.convert("L"), "PNG"),
}


def main(folder: Path) -> None:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    reader = ImageReader(folder, DataConfig(catalogue_schema="", listings=""))
    started = time.perf_counter()
    with ThreadPoolExecutor(4) as pool:
        prints = as_array(list(pool.map(lambda name: fingerprint(reader.open(name, SIDE)), names)))
    seconds = time.perf_counter() - started
    drawn = np.random.default_rng(0).permutation(len(names))[:_SAMPLE]
    table = Table("copy", "found %", title=f"{len(names):,} photographs, {seconds / len(names) * 1e3:.1f} ms each")
    for name, change in MORE.items():
        copies = [Image.open(io.BytesIO(change(reader.open(names[number])))).convert("RGB") for number in drawn]
        found = alike(prints[drawn], as_array([fingerprint(copy) for copy in copies]))
        table.add_row(name, f"{100 * found.mean():.1f}")
    pairs = near(prints)
    Console().print(table, f"{len(pairs)} of {len(names) * (len(names) - 1) // 2:,} pairs are taken for one photograph")
    for one, other in pairs:
        print(f"  {names[one]}  {names[other]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
