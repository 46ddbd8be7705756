"""The gold that a run leaves out of its comparisons."""

from dataclasses import dataclass, field
from pathlib import Path
from shutil import copyfile

import pytest

from attrloop.components.gold.learnt import learnt_by_labels, write_learnt
from attrloop.components.gold.left_out import judged_by, left_out, omissions
from attrloop.components.run.artifact import Artifact
from attrloop.components.run.workspace import Workspace
from tests.components.gold.shop import Shop
from tests.tracked import give_history, make_run


# Of tests.tracked: even numbers are validation, odd ones are test.
def started(folder: Path) -> Workspace:
    ws = make_run(folder, accuracy={"base": 0.3}, gold=4).ws
    give_history(ws, {"trained": ["rug-0", "rug-1", "rug-3"], "chosen": ["rug-2", "rug-5"]})
    return ws


def test_test_gold_must_be_new_to_every_ancestor_and_validation_may_choose_again(tmp_path: Path) -> None:
    ws = started(tmp_path)
    found = {(row.split, row.listing, row.reason) for row in left_out(ws)}
    assert found == {
        ("test", "rug-1", "trained"),
        ("test", "rug-3", "trained"),
        ("test", "rug-5", "chosen"),
        ("validation", "rug-0", "trained"),
    }
    kept = {label.listing for label in judged_by(ws, "test")}
    assert len(kept) == 3 * 4 - 3 and not kept & {"rug-1", "rug-3", "rug-5"}
    assert len({label.listing for label in judged_by(ws, "validation")}) == 3 * 4 - 1


def test_what_is_left_out_is_summed_up_in_words(tmp_path: Path) -> None:
    ws = started(tmp_path)
    assert omissions(ws) == {}, "not looked for yet"
    left_out(ws)
    found = omissions(ws)
    assert (
        found["test"].text
        == "3 of 12 gold listings are left out (2 already trained on, 1 already used to choose): rug-1, rug-3, rug-5"
    )
    assert (found["validation"].listings, found["validation"].of) == (1, 12)


def test_a_run_without_an_earlier_adapter_leaves_nothing_out(tmp_path: Path) -> None:
    ws = make_run(tmp_path, accuracy={"base": 0.3}, gold=2).ws
    assert left_out(ws) == [] and len(judged_by(ws, "test")) == 3 * 2 * 2


def test_it_is_found_again_when_labels_change(tmp_path: Path) -> None:
    ws = started(tmp_path)
    left_out(ws)
    artifact = Artifact(ws.store, "annotate", {"labels": "others"})
    (artifact.folder / "labels.jsonl").write_text(
        '{"listing":"rug-2","attribute":"trim","value":"red","split":"test"}\n'
    )
    artifact.finish("labels", {}, ["labels.jsonl"])
    assert [(row.listing, row.reason) for row in left_out(ws)] == [("rug-2", "chosen")]
    assert judged_by(ws, "test") == []


@dataclass
class Generations:
    """Runs over one catalogue, each of which starts from the adapter of the one before."""

    folder: Path
    shop: Shop = field(init=False)
    before: Workspace | None = None
    count: int = 0

    def __post_init__(self) -> None:
        self.shop = Shop(self.folder / "shop")

    def run(self, **labels: list[str]) -> Workspace:
        """A run with labels of each split. It trains nothing, and writes the record that a training writes."""
        self.count += 1
        ws = self.shop.run(self.folder / "runs", f"run-{self.count}")
        artifact = Artifact(ws.store, "annotate", {})
        rows = [(listing, split) for split, listings in labels.items() for listing in listings]
        text = [
            f'{{"listing": "{listing}", "attribute": "lid", "value": "yes", "split": "{split}"}}'
            for listing, split in rows
        ]
        (artifact.folder / "labels.jsonl").write_text("\n".join(text))
        artifact.finish("labels", {}, ["labels.jsonl"])
        if self.before:
            start = Artifact(ws.store, "start", {})
            copyfile(self.before.store.file("sft/learnt.parquet"), start.folder / "learnt.parquet")
            start.finish("adapter", {}, ["learnt.parquet"])
        trained = Artifact(ws.store, "sft", {})
        source = "start/adapter" if self.before else ""
        write_learnt(ws, trained.folder / "learnt.parquet", learnt_by_labels(ws), source)
        trained.finish("adapter", {}, ["learnt.parquet"])
        self.before = ws
        return ws

    def left_out(self, ws: Workspace) -> dict[str, tuple[str, str]]:
        return {row.listing: (row.reason, row.other) for row in left_out(ws)}


@pytest.mark.parametrize("copy", ["png", "jpeg-70", "half"], ids=["equal bytes", "compressed again", "smaller"])
def test_gold_that_shares_a_photograph_with_an_ancestors_listing_is_left_out(tmp_path: Path, copy: str) -> None:
    runs = Generations(tmp_path)
    runs.shop.add("old", pictures=[runs.shop.picture(1)])
    runs.shop.add("seen", pictures=[runs.shop.picture(2)])
    runs.run(train=["old"], validation=["seen"])
    runs.shop.listings.clear()
    runs.shop.add("again", pictures=[runs.shop.picture(7), runs.shop.picture(1, copy)])
    runs.shop.add("also", pictures=[runs.shop.picture(2, copy)])
    runs.shop.add("new", pictures=[runs.shop.picture(3)])
    ws = runs.run(test=["again", "also", "new"])
    assert runs.left_out(ws) == {"again": ("photograph", "old"), "also": ("photograph", "seen")}
    assert [label.listing for label in judged_by(ws, "test")] == ["new"]


def test_what_a_grandparent_was_trained_on_is_left_out(tmp_path: Path) -> None:
    runs = Generations(tmp_path)
    for number in range(4):
        runs.shop.add(f"mug-{number}", pictures=[runs.shop.picture(number)])
    runs.run(train=["mug-0"], validation=["mug-1"], test=["mug-2"])
    runs.run(train=["mug-3"])
    ws = runs.run(test=["mug-0", "mug-1", "mug-2"], validation=["mug-3"])
    assert runs.left_out(ws) == {"mug-0": ("trained", ""), "mug-1": ("chosen", ""), "mug-3": ("trained", "")}


def test_gold_that_shares_a_photograph_with_this_runs_training_is_left_out(tmp_path: Path) -> None:
    runs = Generations(tmp_path)
    for number, listing in enumerate(("taught", "judged", "other")):
        runs.shop.add(listing, pictures=[runs.shop.picture(number)])
    runs.shop.add("bridge", pictures=[runs.shop.picture(0), runs.shop.picture(1)])
    splits = {"taught": "train", "judged": "test", "other": "test"}
    runs.shop.labels = [
        {"listing": listing, "attribute": "lid", "value": "yes", "split": split} for listing, split in splits.items()
    ]
    ws = runs.run(train=["taught"], test=["judged", "other"])
    assert runs.left_out(ws) == {"judged": ("mixed", "taught")}
    assert "1 sharing a photograph with a listing of another split" in omissions(ws)["test"].text
