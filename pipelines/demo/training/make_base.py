"""Makes the demo's base model again, in about an hour on two cores.

    python -m attrloop.pipelines.demo.training.make_base WORK OUT

WORK keeps what is finished (the tower, checkpoints), so that the same command goes on after a kill. OUT receives the
model and the log of its training.
"""

import json
import sys
from pathlib import Path

from attrloop.pipelines.demo.training.language import make_model, make_tokenizer, probe, train
from attrloop.pipelines.demo.training.tower import make_tower

SEED = 0
STEPS = 700
CAPTIONS = 600  # photographs with captions: few, so that the base stays a weak generalist
CLEAN = (0.0, 0.15)  # difficulty of those photographs
CATALOGUE = (1.0, 1.0)


def make_base(work: Path, out: Path) -> dict[str, float]:
    """Trains the tower and the language model and writes the model.

    Args:
        work: folder for what is not finished.
        out: folder for the model.

    Returns:
        Fraction of evidence named rightly on photographs of other products than the demo's: `clean` ones and ones as
        hard as the `catalogue`'s.
    """
    tower = make_tower(work, seed=SEED)
    log = work / "language.jsonl"
    log.unlink(missing_ok=True)
    vlm = make_model(make_tokenizer(SEED), SEED, out, tower)
    train(vlm, steps=STEPS, captions=CAPTIONS, difficulty=CLEAN, seed=SEED, log=log)
    named = {"clean": probe(vlm, 300, SEED + 5, CLEAN), "catalogue": probe(vlm, 600, SEED + 6, CATALOGUE)}
    vlm.base.save_pretrained(out)
    (out / "training.jsonl").write_text(
        (work / "tower.jsonl").read_text() + log.read_text() + json.dumps({"evidence_named_rightly": named}) + "\n"
    )
    return named


if __name__ == "__main__":
    print(make_base(Path(sys.argv[1]), Path(sys.argv[2])))
