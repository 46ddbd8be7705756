"""Writes the config and data of a run on real product photographs.

    python -m tests.experiments.real_photographs SOURCE OUT
    attrloop run OUT/config.yaml

SOURCE is a folder with `schema.json` ({vertical: {attribute: [values]}}), and `train.jsonl` and `val.jsonl` with rows
of id, vertical, images, title and attributes. Few training listings keep their labels. Validation labels come from
train.jsonl, test labels from val.jsonl. The model sees only the images.
"""

import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from attrloop.pipelines.demo.demo import BASE

LABELLED, VALIDATION, TEST, UNLABELLED = 25, 40, 60, 150  # listings of each vertical


def rows_of(path: Path, rng: random.Random) -> dict[str, list[dict[str, Any]]]:
    """The rows of a file by vertical, shuffled."""
    verticals: dict[str, list[dict[str, Any]]] = {}
    for line in path.read_text().splitlines():
        row = json.loads(line)
        verticals.setdefault(row["vertical"], []).append(row)
    for rows in verticals.values():
        rng.shuffle(rows)
    return verticals


def write(source: Path, out: Path, seed: int = 0) -> dict[str, float]:
    """Writes schema, listings, labels and config. The images stay where they are.

    Returns:
        By vertical, the accuracy on test of always giving each attribute's most frequent training label, in [0, 1].
    """
    out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    values = json.loads((source / "schema.json").read_text())
    schema = {
        "verticals": {
            v: {"attributes": {a: {"values": names} for a, names in attributes.items()}}
            for v, attributes in values.items()
        }
    }
    (out / "schema.yaml").write_text(yaml.safe_dump(schema))
    train, held_out = rows_of(source / "train.jsonl", rng), rows_of(source / "val.jsonl", rng)
    listings, labels, majority = [], [], {}
    for vertical, rows in train.items():
        cuts = {
            "train": rows[:LABELLED],
            "validation": rows[LABELLED : LABELLED + VALIDATION],
            "test": held_out[vertical][:TEST],
        }
        cuts[""] = rows[LABELLED + VALIDATION : LABELLED + VALIDATION + UNLABELLED]
        for split, members in cuts.items():
            for row in members:
                images = [os.path.relpath(source / image, out) for image in row["images"]]
                listings.append({"id": row["id"], "vertical": vertical, "images": images, "title": row["title"]})
                if split:
                    labels += [
                        {"listing": row["id"], "attribute": a, "value": v, "split": split}
                        for a, v in row["attributes"].items()
                    ]
        counts = {
            a: Counter(row["attributes"][a] for row in cuts["train"] if a in row["attributes"])
            for a in values[vertical]
        }
        right = [
            counts[a] and counts[a].most_common(1)[0][0] == v
            for row in cuts["test"]
            for a, v in row["attributes"].items()
        ]
        majority[vertical] = sum(map(bool, right)) / len(right)
    for name, records in (("listings", listings), ("labels", labels)):
        (out / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    config = {
        "name": "real-photographs",
        "seed": seed,
        "data": {"catalogue_schema": "schema.yaml", "listings": "listings.jsonl", "labels": "labels.jsonl"}
        | {"allowed_folders": [str(source.resolve())]},
        "model": {"base": str(BASE), "dtype": "float32"},
        "annotate": {"train_per_vertical": LABELLED, "validation_per_vertical": VALIDATION, "test_per_vertical": TEST},
        "sft": {"learning_rate": 0.002, "epochs": 12, "batch_size": 32, "feature_noise": 0.3},
        "sample": {"chains": 8, "max_new_tokens": 24, "batch_size": 64, "shard_size": 100},
        "dpo": {"learning_rate": 0.001, "epochs": 2, "batch_size": 32, "nll": 2.0},
        "evaluate": {"batch_size": 200, "max_new_tokens": 24},
        "loop": {"iterations": 2},
        "tracking": {"experiment": "real-photographs", "model_name": "real-photographs-adapter"},
    }
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return majority


if __name__ == "__main__":
    majority = write(Path(sys.argv[1]).absolute(), Path(sys.argv[2]).absolute())
    print({"majority class on test": {**majority, "macro": sum(majority.values()) / len(majority)}})
